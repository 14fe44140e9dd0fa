from __future__ import annotations

import ipaddress

import pytest

from novakube_agent.hostops.download_address import AddressPolicy, parse_cidrs
from novakube_kit.errors import InvalidSpec

SITE = AddressPolicy(
    allowed=parse_cidrs("A", "127.0.0.9/32, 10.9.0.0/16"), refused=parse_cidrs("R", "10.0.0.0/8")
)


@pytest.mark.parametrize(
    ("address", "want"),
    [
        ("127.0.0.1", "loopback"),
        ("127.0.0.9", None),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("10.1.2.3", "site refuses"),
        ("::ffff:10.1.2.3", "site refuses"),
        ("10.9.2.3", None),
        ("192.0.2.10", None),
        ("2001:db8::1", None),
    ],
)
def test_which_addresses_are_refused(address: str, want: str | None) -> None:
    problem = SITE.problem(ipaddress.ip_address(address))
    assert (problem is None) if want is None else (problem is not None and want in problem)


def test_a_bad_setting_is_named() -> None:
    with pytest.raises(InvalidSpec, match=r"NOVAKUBE_X: '10\.0\.0\.1/8' is no network"):
        parse_cidrs("NOVAKUBE_X", "10.0.0.1/8")
