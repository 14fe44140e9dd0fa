"""Loading our own iptables chains. Blocking; rules of others are never touched."""

from __future__ import annotations

from novakube_agent.hostops.netlink import sysctl
from novakube_agent.hostops.process import run_blocking
from novakube_agent.render.firewall import JUMPS, Jump, render_bridge_accept
from novakube_kit.errors import HostFailure

DEADLINE_S = 15.0
_WAIT = "--wait=10"  # seconds for the lock that all users of iptables share


def bridges_are_filtered() -> bool:
    """Whether frames between bridge ports pass this namespace's IP rules (br_netfilter)."""
    return sysctl("bridge/bridge-nf-call-iptables") == "1"


def ensure_bridge_accept() -> None:
    """Bridged frames of our bridges pass, whatever else the rules say.

    Raises:
        HostFailure: iptables is missing or refuses.
    """
    missing = frozenset(jump for jump in JUMPS if not _present(jump))
    if not missing:
        return
    text = render_bridge_accept(missing)
    argv = ["iptables-restore", _WAIT, "--noflush"]
    _checked(argv, *run_blocking(argv, deadline_s=DEADLINE_S, stdin=text))


def remove_bridge_accept() -> None:
    """Our chains and the jumps to them are gone; tolerant of absence."""
    for jump in JUMPS:
        if _present(jump):
            _iptables(jump, "-D", *jump.arguments())
        if _succeeds(jump, "-S", jump.chain):
            _iptables(jump, "-F", jump.chain)
            _iptables(jump, "-X", jump.chain)


def _present(jump: Jump) -> bool:
    return _succeeds(jump, "-C", *jump.arguments())


def _argv(jump: Jump, *arguments: str) -> list[str]:
    return ["iptables", _WAIT, "-t", jump.table, *arguments]


def _succeeds(jump: Jump, *arguments: str) -> bool:
    code, _ = run_blocking(_argv(jump, *arguments), deadline_s=DEADLINE_S)
    return code == 0


def _iptables(jump: Jump, *arguments: str) -> None:
    argv = _argv(jump, *arguments)
    _checked(argv, *run_blocking(argv, deadline_s=DEADLINE_S))


def _checked(argv: list[str], code: int, words: str) -> None:
    if code:
        raise HostFailure(f"{' '.join(argv)} failed: {words}", reason="FirewallFailed")
