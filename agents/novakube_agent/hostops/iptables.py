"""Loading our own iptables chains. Blocking; rules of others are never touched."""

from __future__ import annotations

from novakube_agent.hostops.netlink import sysctl
from novakube_agent.hostops.process import run_blocking
from novakube_agent.render.firewall import JUMPS, Jump, render_bridge_accept
from novakube_kit.errors import HostFailure

DEADLINE_S = 15.0
_WAIT = "--wait=10"  # seconds for the lock that all users of iptables share


_FILTERED_BY = {
    "iptables": "bridge/bridge-nf-call-iptables",
    "ip6tables": "bridge/bridge-nf-call-ip6tables",
}
"""By program, the sysctl that makes frames between bridge ports pass its rules (br_netfilter)."""


def ensure_bridge_accept() -> None:
    """Bridged frames of our bridges pass, whatever else the rules of this namespace say.

    Nothing is done for a protocol whose rules such frames do not pass.

    Raises:
        HostFailure: iptables is missing or refuses.
    """
    for program, switch in _FILTERED_BY.items():
        if sysctl(switch) != "1":
            continue
        missing = frozenset(jump for jump in JUMPS if not _present(program, jump))
        if missing:
            text = render_bridge_accept(missing)
            argv = [f"{program}-restore", _WAIT, "--noflush"]
            _checked(argv, *run_blocking(argv, deadline_s=DEADLINE_S, stdin=text))


def remove_bridge_accept() -> None:
    """Our chains and the jumps to them are gone; tolerant of absence."""
    for program in _FILTERED_BY:
        for jump in JUMPS:
            if _present(program, jump):
                _iptables(program, jump, "-D", *jump.arguments())
            if _succeeds(program, jump, "-S", jump.chain):
                _iptables(program, jump, "-F", jump.chain)
                _iptables(program, jump, "-X", jump.chain)


def _present(program: str, jump: Jump) -> bool:
    return _succeeds(program, jump, "-C", *jump.arguments())


def _argv(program: str, jump: Jump, *arguments: str) -> list[str]:
    return [program, _WAIT, "-t", jump.table, *arguments]


def _succeeds(program: str, jump: Jump, *arguments: str) -> bool:
    code, _ = run_blocking(_argv(program, jump, *arguments), deadline_s=DEADLINE_S)
    return code == 0


def _iptables(program: str, jump: Jump, *arguments: str) -> None:
    argv = _argv(program, jump, *arguments)
    _checked(argv, *run_blocking(argv, deadline_s=DEADLINE_S))


def _checked(argv: list[str], code: int, words: str) -> None:
    if code:
        raise HostFailure(f"{' '.join(argv)} failed: {words}", reason="FirewallFailed")
