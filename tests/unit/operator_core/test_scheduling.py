"""The scheduler's choice: every filter's reason, the sentence, and properties of the choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novakube_crds.v1alpha1.hypervisor import BUILD_FAILURES, HypervisorSpec
from novakube_operator.core.scheduling.choice import GROUPS_MAX, choose, same_cause, summary
from novakube_operator.core.scheduling.extra_specs import matcher
from novakube_operator.core.scheduling.hosts import GIB, Amounts, Host, Request, Unschedulable
from novakube_operator.core.scheduling.json_query import DEPTH_MAX, parse
from novakube_operator.core.scheduling.pipeline import Options, Refusal, UnusableHint
from novakube_operator.core.scheduling.registry import FILTERS, NEEDED, UnknownName, pipeline
from tests.unit.operator_core.scheduling_samples import SMALL, STATUS, a_group, a_host

ANY = Request(Amounts())
ALL = pipeline(Options(), tuple(FILTERS))
FULL = Amounts(0, 4096, 0)


def spec(key: str, value: str) -> Request:
    return Request(Amounts(), extra_specs={key: value})


def image(**properties: str) -> Request:
    return Request(Amounts(), image_properties=properties)


def query(text: str) -> Request:
    return Request(Amounts(), query=text)


def near(address: str, cidr: str = "/24") -> Request:
    return Request(Amounts(), near_host_ip=address, near_cidr=cidr)


def at(address: str | None) -> Host:
    return a_host(status=STATUS.model_copy(update={"address": address}))


def flavor(name: str) -> Request:
    return Request(Amounts(), flavor=name)


AGG = "aggregate_instance_extra_specs:"
CASES: list[tuple[str, Host, Request, str | None]] = [
    ("disabled", a_host(why="disabled (repair)"), SMALL, "disabled (repair)"),
    ("memory", a_host(), Request(Amounts(1, 4608, 0)),
     "short of 4608 MiB memory (most free 4096 on n1)"),
    ("cpu", a_host(), Request(Amounts(17, 1, 0)), "short of 17 vCPUs (most free 16 on n1)"),
    ("disk", a_host(), Request(Amounts(1, 1, 100 * GIB + 1)),
     "short of 101 GiB disk (most free 100 on n1)"),
    ("used", a_host(used=FULL), SMALL, "short of 512 MiB memory (most free 0 on n1)"),
    ("reserved", a_host(spec=HypervisorSpec(reserved_memory_mib=4608)), SMALL,
     "short of 512 MiB memory (most free 0 on n1)"),
    ("zone", a_host(), Request(Amounts(), zone="east"), "not in zone east"),
    ("in zone", a_host(zone="east"), Request(Amounts(), zone="east"), None),
    ("forced", a_host(), Request(Amounts(), forced_host="n9"), "not spec.forcedHost n9"),
    ("forced here", a_host(), Request(Amounts(), forced_host="n1"), None),
    ("refused", a_host(), Request(Amounts(), refused=frozenset({"n1"})), "refused it before"),
    ("aggregate spec absent", a_host(), spec(AGG + "ssd", "true"),
     "in no aggregate with ssd true"),
    ("aggregate spec other", a_host(metadata={"ssd": "false"}), spec(AGG + "ssd", "true"),
     "in no aggregate with ssd true"),
    ("aggregate spec", a_host(metadata={"ssd": "false,true"}), spec(AGG + "ssd", "true"), None),
    ("aggregate spec number", a_host(metadata={"gen": "7"}), spec(AGG + "gen", ">= 6"), None),
    ("tenant other", a_host(metadata={"filter_tenant_id": "a,b"}), Request(Amounts(), tenant="c"),
     "for other projects"),
    ("tenant", a_host(metadata={"filter_tenant_id": "a", "filter_tenant_id2": "c"}),
     Request(Amounts(), tenant="c"), None),
    ("aggregate image other", a_host(metadata={"os_distro": "windows"}), image(os_distro="debian"),
     "for images with another os_distro than debian"),
    ("aggregate image", a_host(metadata={"os_distro": "windows,debian"}),
     image(os_distro="debian"), None),
    ("aggregate image silent", a_host(metadata={"os_distro": "windows"}), image(), None),
    ("capability short", a_host(used=FULL), spec("capabilities:free_ram_mb", ">= 1"),
     "without capability capabilities:free_ram_mb >= 1"),
    ("capability nested", a_host(), spec("capabilities:cpu_info:model", "Skylake"), None),
    ("capability in", a_host(), spec("capabilities:traits", "<in> HW_CPU_X86_AVX2"), None),
    ("capability unscoped", a_host(), spec("vcpus_total", "s== 4"), None),
    ("capability unknown", a_host(), spec("nonsense", "x"), "without capability nonsense x"),
    ("other scope", a_host(), spec("hw:cpu_policy", "dedicated"), None),
    ("arch", a_host(), image(hw_architecture="aarch64"), "not of architecture aarch64"),
    ("arch alias", a_host(), image(architecture="amd64"), None),
    ("arch smaller", a_host(), image(hw_architecture="i686"), None),
    ("type", a_host(), image(img_hv_type="xen"), "not of hypervisor type xen"),
    ("type kvm", a_host(), image(hypervisor_type="kvm"), None),
    ("vm mode", a_host(), image(hw_vm_mode="xen"), "without VM mode xen"),
    ("vm mode hvm", a_host(), image(vm_mode="hvm"), None),
    ("version", a_host(), image(img_hv_requested_version=">=8.3"),
     "not of hypervisor version >=8.3"),
    ("version range", a_host(), image(hypervisor_version_requires=">=8.2, <9"), None),
    ("affinity", a_host(), Request(Amounts(), group=a_group("affinity", {"n2": 1})),
     "without server group g"),
    ("affinity here", a_host(), Request(Amounts(), group=a_group("affinity", {"n1": 1})), None),
    ("affinity first", a_host(), Request(Amounts(), group=a_group("affinity", {})), None),
    ("anti", a_host(), Request(Amounts(), group=a_group("anti-affinity", {"n1": 1})),
     "with 1 of server group g already"),
    ("anti below", a_host(), Request(Amounts(), group=a_group("anti-affinity", {"n1": 1}, 2)),
     None),
    ("anti full", a_host(), Request(Amounts(), group=a_group("anti-affinity", {"n1": 2}, 2)),
     "with 2 of server group g already"),
    ("soft", a_host(), Request(Amounts(), group=a_group("soft-anti-affinity", {"n1": 9})), None),
    ("same", a_host(), Request(Amounts(), same_host=frozenset({"n2"})),
     "without the instances of hint same_host"),
    ("same of nobody", a_host(), Request(Amounts(), same_host=frozenset()),
     "without the instances of hint same_host"),
    ("same here", a_host(), Request(Amounts(), same_host=frozenset({"n1"})), None),
    ("different", a_host(), Request(Amounts(), different_host=frozenset({"n1"})),
     "with an instance of hint different_host"),
    ("different there", a_host(), Request(Amounts(), different_host=frozenset({"n2"})), None),
    ("near", at("192.0.2.9"), near("192.0.2.200"), None),
    ("near no more", at("192.0.3.9"), near("192.0.2.200"),
     "outside 192.0.2.0/24 of hint build_near_host_ip"),
    ("near in a larger network", at("192.0.3.9"), near("192.0.2.200", "/23"), None),
    ("near itself only", at("192.0.2.9"), near("192.0.2.8", "/32"),
     "outside 192.0.2.8/32 of hint build_near_host_ip"),
    ("near by IPv6", at("2001:db8::9"), near("2001:db8::1", "/64"), None),
    ("near by another protocol", at("2001:db8::9"), near("192.0.2.1"),
     "outside 192.0.2.0/24 of hint build_near_host_ip"),
    ("near nobody knows where", at(None), near("192.0.2.1"),
     "outside 192.0.2.0/24 of hint build_near_host_ip"),
    ("cidr alone", at("192.0.2.9"), Request(Amounts(), near_cidr="/32"), None),
    ("flavors", a_host(metadata={"instance_type": "m1.big,m1.huge"}), flavor("m1.tiny"),
     "for other flavors than m1.tiny"),
    ("flavors here", a_host(metadata={"instance_type": "m1.big,m1.tiny"}), flavor("m1.tiny"),
     None),
    ("flavors of no aggregate", a_host(), flavor("m1.tiny"), None),
    ("query", a_host(), query('[">=", "$free_ram_mb", 5000]'), "not matching hint query"),
    ("query fits", a_host(), query('["and", [">=", "$free_ram_mb", 4096], ["=", "$zone", "nova"]]'),
     None),
    ("query unknown", a_host(), query('["<", "$nothing", 1]'), "not matching hint query"),
    ("query nested", a_host(), query('["in", "$cpu_info.model", "Skylake", "Haswell"]'), None),
    ("query not", a_host(), query('["not", ["=", "$host", "n1"]]'), "not matching hint query"),
    ("query or", a_host(), query('["or", ["=", "$host", "n2"], ["<", "$vcpus_used", 1]]'), None),
    ("io", a_host(io_ops=8), ANY, "with 8 builds already"),
    ("io aggregate", a_host(io_ops=8, metadata={"max_io_ops_per_host": "20,9,x"}), ANY, None),
    ("instances", a_host(instances=50), ANY, "with 50 instances already"),
    ("instances aggregate", a_host(instances=3, metadata={"max_instances_per_host": "3"}), ANY,
     "with 3 instances already"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "host", "request_", "want"), CASES, ids=[c[0] for c in CASES])
def test_every_filter_gives_its_reason(
    name: str, host: Host, request_: Request, want: str | None
) -> None:
    choice = choose([host], request_, ALL)
    if want is None:
        assert (choice.node, choice.message) == ("n1", "1 of 1 nodes fit, n1 best")
    else:
        assert (choice.node, choice.message) == (None, f"1 node: 1 {want}")


ISOLATING = Options(isolated_images=frozenset({"i"}), isolated_hosts=frozenset({"n1"}))


@pytest.mark.parametrize(
    ("options", "image_", "node"),
    [
        (ISOLATING, "i", "n1"),
        (ISOLATING, "other", "n2"),
        (replace(ISOLATING, restrict_isolated_hosts_to_isolated_images=False), "other", "n1"),
        (Options(), "i", "n1"),
    ],
)
def test_isolated_images_and_hosts(options: Options, image_: str, node: str) -> None:
    request = replace(ANY, image=image_)
    hosts = [a_host("n1"), a_host("n2", used=Amounts(1, 1, 0))]
    assert choose(hosts, request, pipeline(options)).node == node


def test_image_properties_of_a_namespace_only() -> None:
    options = Options(image_properties_namespace="iso", image_properties_separator="_")
    host = a_host(metadata={"os_distro": "windows", "iso_level": "high"})
    use = pipeline(options)
    assert choose([host], image(os_distro="debian"), use).node == "n1"
    assert choose([host], image(iso_level="low"), use).node is None


@pytest.mark.parametrize(
    ("value", "wanted", "matches"),
    [
        (5, "= 4", True), (3, "= 4", False), (4, "== 4", True), (4, "!= 4", False),
        (4, ">= 4", True), (5, "<= 4", False), ("4", ">= 4", True), ("x", ">= 4", False),
        ("abc", "s== abc", True), ("abc", "s!= abc", False), ("abc", "s< abd", True),
        ("abd", "s<= abd", True), ("b", "s> a", True), ("b", "s>= b", True),
        ("sse avx", "<in> avx", True), (["sse", "avx"], "<in> av", False),
        (["sse", "avx"], "<all-in> sse avx", True), (["sse"], "<all-in> sse avx", False),
        ("b", "<or> a <or> b", True), ("c", "<or> a <or> b", False), ("a", "<or>", False),
        ("true", "true", True), ("True", "true", False), ("", "", True),
        (4, ">=", False), (4, ">= x", False), ("4", "4", True), (4, "4", True),
        (None, "s!= x", False), (None, "", False),
    ],
)  # fmt: skip
def test_operators_of_extra_specs(value: Any, wanted: str, matches: bool) -> None:
    assert matcher(wanted)(value) is matches


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("{", "is no JSON"),
        ('"x"', "is no list"),
        ("[]", "is no list"),
        ('["like", "$host", "n"]', "begins with one of = <"),
        ('["and", [["x"]]]', "begins with one of"),
        ('["not",' * (DEPTH_MAX + 1) + '["=", 1, 1]' + "]" * (DEPTH_MAX + 1), "deeper than"),
        ("[" * 100000, "is no JSON"),
    ],
)
def test_a_query_that_is_none(text: str, has: str) -> None:
    with pytest.raises(UnusableHint, match=has):
        parse(text)


@pytest.mark.parametrize(
    ("address", "cidr"), [("192.0.2.1", "24"), ("192.0.2.1", "/33"), ("n1", "/24"), ("", "/24")]
)
def test_a_network_that_is_none(address: str, cidr: str) -> None:
    with pytest.raises(UnusableHint, match="is no network such as"):
        choose([a_host()], near(address, cidr))


def test_a_version_that_is_none() -> None:
    with pytest.raises(UnusableHint, match="'6' is no comparison"):
        choose([a_host()], image(img_hv_requested_version="6"))


def test_reasons_of_all_nodes_in_one_sentence() -> None:
    silent = replace(
        a_host("n6"), unschedulable=Unschedulable("HeartbeatLost", "heartbeat", 1000.0)
    )
    hosts = [
        a_host("n1", used=FULL),
        a_host("n2", why="disabled (maintenance)"),
        a_host("n3", used=FULL),
        a_host("n4", used=Amounts(0, 2560, 0)),
        a_host("n5", why="disabled (maintenance)"),
        silent,
    ]
    request = Request(Amounts(1, 2048, 0), now=1042.0)
    assert choose(hosts, request).message == (
        "6 nodes: 3 short of 2048 MiB memory (most free 1536 on n4), "
        "2 disabled (maintenance), 1 heartbeat 42 s old"
    )
    two = [silent, replace(silent, name="n7", unschedulable=Unschedulable("", "heartbeat", 900.0))]
    assert choose(two, request).message == "2 nodes: 2 heartbeat up to 142 s old"


def test_figures_that_move_by_themselves_are_no_other_cause() -> None:
    one = "3 nodes: 2 short of 2048 MiB memory (most free 1536 on n4), 1 heartbeat 42 s old"
    later = "3 nodes: 2 short of 2048 MiB memory (most free 0 on n1), 1 heartbeat 4200 s old"
    assert same_cause(one, later)
    assert same_cause("2 nodes: 2 heartbeat up to 9 s old", "2 nodes: 2 heartbeat up to 99 s old")
    assert not same_cause(one, one.replace("2 short", "1 short"))
    assert not same_cause(one, one.replace("2048", "4096"))
    assert not same_cause(one, "3 nodes: 3 disabled (maintenance)")


def test_no_node_says_how_to_get_one() -> None:
    assert "novakube.dev/hypervisor=true" in choose([], SMALL).message


def test_a_long_sentence_counts_the_rest() -> None:
    refusals = [(f"n{i}", Refusal(f"disabled ({i:03})")) for i in range(GROUPS_MAX + 5)]
    assert summary(len(refusals), refusals).endswith("1 disabled (019), and 5 for other reasons")


def test_a_node_disabled_by_failures_takes_what_is_forced_onto_it() -> None:
    host = replace(a_host(), unschedulable=Unschedulable(BUILD_FAILURES, "disabled (10 builds)"))
    assert choose([host], ANY).node is None
    assert choose([host], replace(ANY, forced_host="n1")).node == "n1"


def test_ratios_multiply_and_a_reservation_of_zero_counts() -> None:
    spec_ = HypervisorSpec(
        memory_allocation_ratio=2.0, reserved_memory_mib=0, cpu_allocation_ratio=1.0
    )
    host = a_host(spec=spec_)
    assert (host.free_memory_mib, host.free_vcpus) == (9216, 4)


def test_unknown_names_are_told_with_those_there_are() -> None:
    with pytest.raises(UnknownName, match="no scheduler filter 'ramm'; there are: affinity, "):
        pipeline(chosen=("ramm",))
    with pytest.raises(UnknownName, match="no scheduler weigher 'x'"):
        pipeline(weighed=(("x", None),))


def test_what_every_placement_needs_cannot_be_left_out() -> None:
    assert set(NEEDED) <= set(pipeline(chosen=("availability-zone",)).filter_names)
    assert choose([a_host(used=FULL)], SMALL, pipeline(chosen=())).node is None


def test_a_filter_of_a_site_takes_part() -> None:
    def no_n1(_: Options) -> Any:
        return lambda _: lambda host: Refusal("being n1") if host.name == "n1" else None

    use = pipeline(chosen=("no-n1",), more_filters={"no-n1": no_n1})
    assert choose([a_host("n1"), a_host("n2")], ANY, use).node == "n2"
    assert choose([a_host("n1")], ANY, use).message == "1 node: 1 being n1"


@st.composite
def hosts(draw: st.DrawFn) -> list[Host]:
    names = draw(st.lists(st.sampled_from([f"n{i}" for i in range(8)]), unique=True))
    return [
        a_host(
            name,
            used=Amounts(
                draw(st.integers(0, 16)),
                draw(st.integers(0, 4096)),
                draw(st.integers(0, 100)) * GIB,
            ),
            why=draw(st.sampled_from([None, None, "disabled"])),
        )
        for name in names
    ]


@given(hosts(), st.integers(1, 16), st.integers(1, 4096), st.integers(0, 100))
def test_the_choice_fits_and_is_the_same_in_any_order(
    given_hosts: list[Host], vcpus: int, memory_mib: int, disk_gib: int
) -> None:
    request = Request(Amounts(vcpus, memory_mib, disk_gib * GIB))
    choice = choose(given_hosts, request)
    assert choice == choose(list(reversed(given_hosts)), request)
    fitting = {
        host.name
        for host in given_hosts
        if host.unschedulable is None
        and host.free_vcpus >= vcpus
        and host.free_memory_mib >= memory_mib
        and host.free_disk_bytes >= disk_gib * GIB
    }
    assert (choice.node in fitting) if fitting else choice.node is None
    if choice.node is None and given_hosts:
        clauses = choice.message.split(": ")[1].split(", ")
        assert sum(int(clause.split(" ")[0]) for clause in clauses) == len(given_hosts)


def test_a_decision_costs_one_look_at_each_node_and_filter_that_has_a_say() -> None:
    """Counted: filters without a say cost nothing per node, and no node is looked at twice."""
    looks: list[str] = []

    def counting(_: Options) -> Any:
        def check(host: Host) -> None:
            looks.append(host.name)

        return lambda _: check

    def silent(_: Options) -> Any:
        return lambda request: None if request.query is None else pytest.fail("had no say")

    more = {"counting": counting, "silent": silent}
    use = pipeline(chosen=tuple(more), more_filters=more)
    many = [a_host(f"n{number:04}", status=STATUS) for number in range(1000)]
    assert choose(many, SMALL, use).node == "n0000"
    assert (len(looks), len(set(looks))) == (1000, 1000)
