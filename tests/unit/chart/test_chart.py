"""What the chart renders: rights verb by verb, confined containers, and clear refusals."""

from __future__ import annotations

from typing import Any

import pytest

from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.kinds import KINDS
from novakube_operator.manage import parser
from tests.unit.chart.conftest import CHART, Objects, helm, named, rendered, template

WORKLOADS = ("Deployment", "DaemonSet")
HOOK = "helm.sh/hook"


def containers(objects: Objects) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [
        (obj["metadata"]["name"], obj["spec"]["template"]["spec"], container)
        for obj in objects
        if obj["kind"] in WORKLOADS
        for container in obj["spec"]["template"]["spec"]["containers"]
    ]


def rules(objects: Objects, name: str, kind: str = "ClusterRole") -> set[tuple[str, ...]]:
    return {
        (group, resource, verb, *sorted(rule.get("resourceNames", [])))
        for rule in named(objects, kind, name)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_lint_finds_nothing() -> None:
    done = helm("lint", "--strict", "--kube-version", "1.34.0", "-n", "novakube-system", str(CHART))
    assert done.returncode == 0, done.stdout


def test_no_role_has_wildcards(default: Objects) -> None:
    for obj in default:
        for rule in obj.get("rules", []) if obj["kind"] in ("Role", "ClusterRole") else []:
            for words in (rule["apiGroups"], rule["resources"], rule["verbs"]):
                assert "*" not in words, obj["metadata"]["name"]


def test_agent_may_do_one_thing(default: Objects) -> None:
    assert rules(default, "novakube-agent") == {
        ("", "serviceaccounts/token", "create", "novakube-node")
    }


def test_node_account_has_exactly_these_rights(default: Objects) -> None:
    ours = "novakube.dev"
    leases = "coordination.k8s.io"
    reads = {
        (ours, kind, verb)
        for kind in ("guests", "hypervisorreports")
        for verb in ("get", "list", "watch")
    }
    assert rules(default, "novakube-node") == reads | {
        (ours, "guests/status", "patch"),
        (ours, "hypervisorreports/status", "patch"),
        *((leases, "leases", verb, "heartbeat") for verb in ("get", "update", "patch")),
    }
    shared = ("addressslices", "networks", "securitygroups", "subnets")
    assert rules(default, "novakube-node-shared") == {
        (leases, "leases", "get", "novakube-operator"),
        *((ours, kind, verb) for kind in shared for verb in ("get", "list", "watch")),
    }


def test_api_writes_no_object_and_reads_no_secret(default: Objects) -> None:
    granted = rules(default, "novakube-api")
    writes = {rule for rule in granted if rule[2] not in ("get", "list", "watch")}
    assert writes == {
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("authorization.k8s.io", "subjectaccessreviews", "create"),
    }
    assert not any(rule[1] == "secrets" for rule in granted)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_is_placed(default: Objects, kind: Kind) -> None:
    """Internal kinds in no tenant role; tenants' kinds in edit; the operator has them all."""
    edit = {(r[1], r[2]) for r in rules(default, "novakube-edit")}
    view = {(r[1], r[2]) for r in rules(default, "novakube-view")}
    ours = kind.namespaced and not kind.internal
    assert ((kind.plural, "get") in view) == ours
    assert ((kind.plural, "create") in edit) == (ours and kind.kind != "Quota")
    assert not any(resource.endswith("/status") for resource, _ in edit | view)
    operator = {(r[1], r[2]) for r in rules(default, "novakube-operator")}
    assert {(kind.plural, "watch"), (f"{kind.plural}/status", "patch")} <= operator
    policy = named(default, "ValidatingAdmissionPolicy", "novakube-internal-kinds")
    guarded = policy["spec"]["matchConstraints"]["resourceRules"]
    assert (kind.plural in guarded[0]["resources"]) == kind.internal
    assert (f"{kind.plural}/status" in guarded[1]["resources"]) == kind.internal


def test_every_policy_is_bound_and_fails_closed(default: Objects) -> None:
    policies = [o for o in default if o["kind"] == "ValidatingAdmissionPolicy"]
    assert len(policies) == 8
    for policy in policies:
        name = policy["metadata"]["name"]
        assert policy["spec"]["failurePolicy"] == "Fail"
        binding = named(default, "ValidatingAdmissionPolicyBinding", name)
        assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}


def test_containers_are_confined(default: Objects) -> None:
    seen = set()
    for name, pod, container in containers(default):
        seen.add(name)
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"], name
        if name == "novakube-agent":
            # The image's entry point leaves it the capabilities it needs (tests/unit/images).
            assert security["privileged"]
            assert pod["hostNetwork"]
            assert pod["nodeSelector"] == {"novakube.dev/hypervisor": "true"}
        else:
            assert "privileged" not in security, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert pod["securityContext"]["runAsNonRoot"], name
            assert pod["securityContext"]["runAsUser"] != 0, name
    assert seen == {"novakube-operator", "novakube-agent", "novakube-api"}


def test_each_component_has_its_image_and_no_command() -> None:
    """The image's entry point is what runs: it reaps, and confines the agent."""
    objects = rendered("image.repository=registry.example/cloud", "image.tag=v7")
    for name, _, container in containers(objects):
        component = name.removeprefix("novakube-")
        assert container["image"] == f"registry.example/cloud/{component}:v7"
        assert "command" not in container


def test_one_operator_with_sqlite_two_with_a_database(default: Objects) -> None:
    alone = named(default, "Deployment", "novakube-operator")
    assert alone["spec"]["replicas"] == 1
    assert alone["spec"]["strategy"] == {"type": "Recreate"}
    assert named(default, "PersistentVolumeClaim", "novakube-history")
    objects = rendered("operator.database.secretName=db")
    pair = named(objects, "Deployment", "novakube-operator")
    assert pair["spec"]["replicas"] == 2
    assert not [o for o in objects if o["kind"] == "PersistentVolumeClaim"]


def test_budgets_only_where_one_may_go(default: Objects) -> None:
    assert not [o for o in default if o["kind"] == "PodDisruptionBudget"]
    objects = rendered("operator.database.secretName=db", "api.replicas=3")
    budgets = {
        o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "PodDisruptionBudget"
    }
    assert set(budgets) == {"novakube-operator", "novakube-api"}
    for name, spec in budgets.items():
        pod = named(objects, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert spec["maxUnavailable"] == 1
        assert spec["selector"]["matchLabels"].items() <= pod.items()


def test_network_policies_leave_the_port_that_serves(default: Objects) -> None:
    assert not [o for o in default if o["kind"] == "NetworkPolicy"]
    objects = rendered("networkPolicies=true", "api.port=9000")
    for name, port in (("novakube-operator", 8080), ("novakube-api", 9000)):
        spec = named(objects, "NetworkPolicy", name)["spec"]
        pod = named(objects, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= pod.items()
        assert spec["ingress"] == [{"ports": [{"protocol": "TCP", "port": port}]}]


def test_agents_never_get_a_database(default: Objects) -> None:
    for objects in (default, rendered("operator.database.secretName=db")):
        for name, _, container in containers(objects):
            variables = {variable["name"] for variable in container["env"]}
            assert ("NOVAKUBE_DATABASE_URL" in variables) == (name == "novakube-operator")


def test_without_workloads_only_rights_and_policies() -> None:
    assert {o["kind"] for o in rendered("workloads=false")} == {
        "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("agent.driver=vbox", "/agent/driver"),
        ("agent.stateDir=relative", "/agent/stateDir"),
        ("agent.replicas=3", "'replicas' not allowed"),
        ("operator.replicas=0", "/operator/replicas"),
        ("operator.replicas=2", "operator.replicas above 1 needs operator.database.secretName"),
        ("operator.persistence.size=lots", "/operator/persistence/size"),
        ("api.port=80", "/api/port"),
        ("api.url=http://cloud", "/api/url"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("rights.flavorReaders=all", "/rights/flavorReaders"),
    ],
)
def test_bad_value_is_named(setting: str, message: str) -> None:
    done = template(setting)
    assert done.returncode != 0
    assert message in done.stderr


def test_another_namespace_is_refused() -> None:
    done = template(namespace="elsewhere")
    assert "install novakube into the namespace novakube-system, not elsewhere" in done.stderr


def test_further_settings_reach_the_operator_and_nothing_else_does() -> None:
    name = "NOVAKUBE_SCHEDULER_MAX_INSTANCES_PER_HOST"
    objects = rendered(f"operator.env.{name}=seven")
    found = [c for _, _, c in containers(objects) if c["name"] == "operator"]
    assert [{"name": name, "value": "seven"}] == [e for e in found[0]["env"] if e["name"] == name]
    refused = template("operator.env.PATH=/x")
    assert refused.returncode != 0
    assert "PATH" in refused.stderr


def hooks(objects: Objects) -> Objects:
    """What helm makes for its test."""
    return [o for o in objects if o["metadata"].get("annotations", {}).get(HOOK) == "test"]


def test_the_account_of_helm_test_has_exactly_these_rights(default: Objects) -> None:
    ours, name = "novakube.dev", "novakube-smoke"
    kinds = ("images", "instances", "networks", "subnets")
    assert rules(default, "novakube-test", "Role") == {
        *((ours, kind, "create") for kind in kinds),
        *((ours, kind, verb, name) for kind in kinds for verb in ("get", "delete")),
        (ours, "instances/console", "get", name),
        ("", "events", "list"),
    }
    assert rules(default, "novakube-test") == {
        (ours, "flavors", "create"),
        *((ours, "flavors", verb, name) for verb in ("get", "delete")),
    }


def test_rights_of_helm_test_end_with_it_and_its_pod_is_confined(default: Objects) -> None:
    made = hooks(default)
    assert {o["kind"] for o in made} == {
        "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Pod",
    }  # fmt: skip
    for one in made:
        policy = one["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
        assert policy == "before-hook-creation,hook-succeeded"
    pod = named(default, "Pod", "novakube-test")["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["image"].endswith("/manage:0.1.0")
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_helm_test_with_a_flavor_of_the_site_makes_none() -> None:
    image = "helmTest.image.url=http://images.example/d.qcow2"
    objects = rendered("helmTest.flavor=m1.tiny", image, "helmTest.cidr=")
    assert not [o for o in hooks(objects) if o["kind"].startswith("ClusterRole")]
    (container,) = named(objects, "Pod", "novakube-test")["spec"]["containers"]
    assert container["args"] == [
        "smoke", "--timeout=180", "--cidr=", "--flavor=m1.tiny",
        "--image-url=http://images.example/d.qcow2", "--disk-format=qcow2",
    ]  # fmt: skip
    parser().parse_args(container["args"])
    assert not hooks(rendered("workloads=false"))
