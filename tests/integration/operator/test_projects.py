"""One namespace for each project: a second one is refused, and told so."""

from __future__ import annotations

import uuid

from tests.deadlines import EVENT_S, READY_S
from tests.integration.operator.cloud import MERGE, Cloud
from tests.integration.operator.conftest import furnished
from tests.integration.operator.test_create import WEB
from tests.waiting import wait_until_sync


def label(cloud: Cloud, namespace: str, project: str | None) -> None:
    """By hand, as an administrator can."""
    body = {"metadata": {"labels": {"novakube.dev/project-id": project}}}
    cloud.admin.call("PATCH", f"/api/v1/namespaces/{namespace}", body, MERGE)


def test_a_second_namespace_of_a_project_is_refused_with_an_event(
    cloud: Cloud, namespace: str
) -> None:
    project, older = uuid.uuid4().hex, namespace
    bound = furnished(cloud, _made(cloud))
    cloud.manage("project", "bind", bound, project)
    label(cloud, older, project)
    told = f"project {project} is bound to namespace {bound} already"

    def warned() -> bool:
        events = cloud.admin.call("GET", "/api/v1/namespaces/default/events")["items"]
        return any(
            (item["reason"], item["involvedObject"]["kind"], item["involvedObject"]["name"])
            == ("ProjectTaken", "Namespace", older)
            and told in item["message"]
            for item in events
        )

    wait_until_sync(warned, "an Event on the namespace", EVENT_S)
    cloud.make("Instance", "late", WEB, older)
    cloud.message("late", older, "Pending", told)
    cloud.make("Instance", "first", WEB, bound)
    cloud.until("instances", "first", bound, state="Running")
    label(cloud, older, None)
    cloud.until("instances", "late", older, READY_S, state="Running")


def _made(cloud: Cloud) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    cloud.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name
