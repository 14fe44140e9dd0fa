"""AioKube against the real API server."""

import pytest

from novakube_kit.access import ClusterAccess
from novakube_kit.errors import AlreadyExists, Conflict, Forbidden, InvalidSpec, NotFound
from novakube_kit.kube_aio import AioKube
from novakube_kit.resources import CONFIGMAPS, NAMESPACES, NODES, ROLEBINDINGS, ROLES, SECRETS
from novakube_kit.tokens import StaticToken
from tests.integration.apiserver import ApiServer
from tests.integration.conftest import KubeAs


def a_map(name: str = "m", **data: str) -> dict:
    return {"metadata": {"name": name}, "data": data}


async def test_create_get_patch_replace_delete(kube: AioKube, namespace: str):
    made = await kube.create(CONFIGMAPS, a_map(k="1"), namespace)
    assert (await kube.get(CONFIGMAPS, "m", namespace))["data"] == {"k": "1"}
    patched = await kube.patch(CONFIGMAPS, "m", {"data": {"k": "2"}}, namespace)
    assert patched["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    patched["data"]["k"] = "3"
    assert (await kube.replace(CONFIGMAPS, "m", patched, namespace))["data"] == {"k": "3"}
    json_patch = [{"op": "test", "path": "/data/k", "value": "3"}]
    json_patch.append({"op": "replace", "path": "/data/k", "value": "4"})
    answer = await kube.patch(CONFIGMAPS, "m", json_patch, namespace, patch_type="json")
    assert answer["data"] == {"k": "4"}
    assert await kube.delete(CONFIGMAPS, "m", namespace) is None
    with pytest.raises(NotFound, match='configmaps "m" not found'):
        await kube.delete(CONFIGMAPS, "m", namespace)


async def test_server_side_apply(kube: AioKube, namespace: str):
    body = {"apiVersion": "v1", "kind": "ConfigMap", **a_map(k="1")}
    for value in ("1", "2"):
        body["data"]["k"] = value
        answer = await kube.patch(
            CONFIGMAPS, "m", body, namespace, patch_type="apply", field_manager="kit-test"
        )
    assert answer["data"] == {"k": "2"}


async def test_an_object_held_by_a_finalizer_is_given_back_by_delete(kube: AioKube, namespace: str):
    body = a_map()
    body["metadata"]["finalizers"] = ["novakube.dev/finalizer"]
    await kube.create(CONFIGMAPS, body, namespace)
    held = await kube.delete(CONFIGMAPS, "m", namespace)
    assert held["metadata"]["deletionTimestamp"]
    gone = await kube.patch(CONFIGMAPS, "m", {"metadata": {"finalizers": None}}, namespace)
    assert "finalizers" not in gone["metadata"]
    with pytest.raises(NotFound):
        await kube.get(CONFIGMAPS, "m", namespace)


async def test_conditional_writes_conflict(kube: AioKube, namespace: str):
    made = await kube.create(CONFIGMAPS, a_map(k="1"), namespace)
    version, uid = made["metadata"]["resourceVersion"], made["metadata"]["uid"]
    patch = {"metadata": {"resourceVersion": version}, "data": {"k": "2"}}
    now = await kube.patch(CONFIGMAPS, "m", patch, namespace)
    with pytest.raises(Conflict, match="the object has been modified"):
        await kube.patch(CONFIGMAPS, "m", patch, namespace)
    with pytest.raises(Conflict):
        await kube.replace(CONFIGMAPS, "m", made, namespace)
    with pytest.raises(Conflict, match="the UID in the precondition"):
        await kube.delete(CONFIGMAPS, "m", namespace, uid="b0d5a1a2-0000-0000-0000-000000000000")
    with pytest.raises(Conflict, match="the ResourceVersion in the precondition"):
        await kube.delete(CONFIGMAPS, "m", namespace, resource_version=version)
    version = now["metadata"]["resourceVersion"]
    assert await kube.delete(CONFIGMAPS, "m", namespace, uid=uid, resource_version=version) is None


async def test_errors_carry_the_servers_own_sentence(kube: AioKube, namespace: str):
    await kube.create(CONFIGMAPS, a_map(), namespace)
    with pytest.raises(AlreadyExists, match='configmaps "m" already exists'):
        await kube.create(CONFIGMAPS, a_map(), namespace)
    with pytest.raises(InvalidSpec, match=r"metadata\.name: Invalid value"):
        await kube.create(CONFIGMAPS, a_map("No_Name"), namespace)
    with pytest.raises(InvalidSpec, match="no legal name"):
        await kube.get(CONFIGMAPS, "../../secrets/x", namespace)
    with pytest.raises(NotFound, match='namespaces "missing" not found'):
        await kube.create(CONFIGMAPS, a_map(), "missing")


async def test_a_terminating_namespace_is_told_apart_from_a_missing_right(
    kube: AioKube, namespace: str
):
    body = a_map()
    body["metadata"]["finalizers"] = ["novakube.dev/finalizer"]
    await kube.create(CONFIGMAPS, body, namespace)
    await kube.delete(NAMESPACES, namespace)
    with pytest.raises(Forbidden, match="being terminated") as raised:
        await kube.create(CONFIGMAPS, a_map("other"), namespace)
    assert raised.value.reason == "NamespaceTerminating"


async def test_a_wrong_token_is_unauthorized_after_one_more_try(apiserver: ApiServer):
    asked: list[str] = []

    class Token(StaticToken):
        def invalidate(self) -> None:
            asked.append("again")

    access = ClusterAccess(apiserver.url, apiserver.ca_file.read_text(), Token("wrong"))
    async with AioKube(access) as stranger:
        with pytest.raises(Forbidden) as raised:
            await stranger.get(NODES, "n")
    assert (raised.value.reason, asked) == ("Unauthorized", ["again"])


async def test_a_service_account_has_its_own_rights_only(
    kube: AioKube, kube_as: KubeAs, namespace: str
):
    reader = await kube_as(namespace, "reader")
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    await kube.create(ROLES, {"metadata": {"name": "view"}, "rules": [rule]}, namespace)
    await kube.create(
        ROLEBINDINGS,
        {
            "metadata": {"name": "view"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "view",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
        },
        namespace,
    )
    assert (await reader.list(CONFIGMAPS, namespace))["items"] is not None
    with pytest.raises(Forbidden, match='cannot list resource "secrets"'):
        await reader.list(SECRETS, namespace)


async def test_pages_are_followed(kube: AioKube, namespace: str):
    for number in range(7):
        await kube.create(CONFIGMAPS, a_map(f"m{number}"), namespace)
    answer = await kube.list(CONFIGMAPS, namespace, limit=3)
    assert [item["metadata"]["name"] for item in answer["items"]] == [f"m{n}" for n in range(7)]
    chosen = await kube.list(CONFIGMAPS, namespace, field_selector="metadata.name=m3")
    assert len(chosen["items"]) == 1


async def test_an_old_version_is_expired(apiserver: ApiServer, kube: AioKube, namespace: str):
    made = await kube.create(CONFIGMAPS, a_map(), namespace)
    await kube.patch(CONFIGMAPS, "m", {"data": {"k": "2"}}, namespace)
    apiserver.restart_server()
    apiserver.compact()
    with pytest.raises(Conflict) as raised:
        async for _ in kube.watch(
            CONFIGMAPS, namespace, resource_version=made["metadata"]["resourceVersion"]
        ):
            pass
    assert raised.value.reason == "Expired"


async def test_custom_resources_are_served(kube: AioKube, crds: list[str]):
    assert "instances.novakube.dev" in crds
