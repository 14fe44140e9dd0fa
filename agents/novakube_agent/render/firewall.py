"""Text of our own iptables chains, for ``iptables-restore --noflush``.

Pure. With br_netfilter on, frames between the ports of our bridges pass the root namespace's
IP rules: a FORWARD policy of DROP (Docker) would cut guests off, and nat rules of others
(kube-proxy, Docker) would rewrite their packets. Our chains accept bridged frames of our
bridges before all of these and touch nothing else. Security groups are loaded elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from novakube_agent.render.names import BRIDGE_PREFIX


@dataclass(frozen=True, slots=True)
class Jump:
    """The one rule in a chain that is not ours."""

    table: str
    base: str
    chain: str

    def arguments(self) -> tuple[str, ...]:
        """Arguments of ``iptables -t <table> -C|-D`` for it."""
        return (self.base, "-j", self.chain)


_BRIDGED = "-m physdev --physdev-is-bridged"
_RULES: dict[Jump, tuple[str, ...]] = {
    Jump("filter", "FORWARD", "NOVAKUBE-FORWARD"): (
        f"-i {BRIDGE_PREFIX}+ -o {BRIDGE_PREFIX}+ {_BRIDGED} -j ACCEPT",
    ),
    Jump("nat", "PREROUTING", "NOVAKUBE-PREROUTING"): (f"-i {BRIDGE_PREFIX}+ -j ACCEPT",),
    Jump("nat", "POSTROUTING", "NOVAKUBE-POSTROUTING"): (
        f"-o {BRIDGE_PREFIX}+ {_BRIDGED} -j ACCEPT",
    ),
}
JUMPS = tuple(_RULES)


def render_bridge_accept(missing: frozenset[Jump]) -> str:
    """Our chains, written whole, and the jumps that are ``missing``."""
    lines: list[str] = []
    for table in dict.fromkeys(jump.table for jump in JUMPS):
        jumps = [jump for jump in JUMPS if jump.table == table]
        lines.append(f"*{table}")
        lines += [f":{jump.chain} - [0:0]" for jump in jumps]
        for jump in jumps:
            lines += [f"-A {jump.chain} {rule}" for rule in _RULES[jump]]
            if jump in missing:
                lines.append(f"-I {jump.base} 1 -j {jump.chain}")
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"
