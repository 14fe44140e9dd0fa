"""``novakube-manage quota`` and ``project``: limits of projects, namespaces of projects."""

from __future__ import annotations

import re
from argparse import Namespace
from typing import Any

from novakube_crds.base import API_VERSION
from novakube_crds.v1alpha1.quota import QUOTA, QUOTA_NAME, QuotaLimits, QuotaUsage
from novakube_crds.v1alpha1.quotaclass import QUOTACLASS, QUOTACLASS_NAME
from novakube_kit.clock import SystemClock, micro_timestamp
from novakube_kit.errors import Conflict, InvalidSpec, NotFound
from novakube_kit.kube import Json, KubePort
from novakube_kit.objects import parse
from novakube_kit.resources import NAMESPACES, resource_of
from novakube_operator.core.projects import BOUND_AT, PROJECT_LABEL
from novakube_operator.core.quota import effective
from novakube_operator.manage_verbs import Answer, Argument, Table, Verb, argument, on_cluster

QUOTAS, CLASSES = resource_of(QUOTA), resource_of(QUOTACLASS)
UNLIMITED = "unlimited"
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
"""Source: Kubernetes, "Labels and Selectors", syntax of values."""


def _wire(field: str) -> str:
    return str(QuotaLimits.model_fields[field].alias or field)


async def _namespace(kube: KubePort, target: str) -> str:
    """The namespace of a project, or the one of that name.

    Raises:
        NotFound: neither is there.
    """
    bound = await _bound(kube, target)
    if bound:
        return bound[0]
    try:
        await kube.get(NAMESPACES, target)
    except NotFound as error:
        raise NotFound(f"no project and no namespace is {target}") from error
    return target


async def _bound(kube: KubePort, project: str) -> list[str]:
    if LABEL_VALUE.fullmatch(project) is None:
        return []
    found = await kube.list(NAMESPACES, label_selector=f"{PROJECT_LABEL}={project}")
    return sorted(item["metadata"]["name"] for item in found["items"])


async def _held(kube: KubePort, namespace: str) -> Json | None:
    try:
        return await kube.get(QUOTAS, QUOTA_NAME, namespace)
    except NotFound:
        return None


async def _class(kube: KubePort) -> Json | None:
    try:
        return await kube.get(CLASSES, QUOTACLASS_NAME)
    except NotFound:
        return None


async def _show(kube: KubePort, args: Namespace) -> Table:
    found = await _class(kube)
    defaults = parse(QUOTACLASS, found).spec.hard if found is not None else None
    if args.target is None:
        return _table(effective(None, defaults), None)
    namespace = await _namespace(kube, args.target)
    held = await _held(kube, namespace)
    if held is None:
        labels = (await kube.get(NAMESPACES, namespace))["metadata"].get("labels") or {}
        if PROJECT_LABEL not in labels:
            unlimited = QuotaLimits(**dict.fromkeys(QuotaLimits.model_fields, -1))
            return _table(unlimited, None)
        return _table(effective(None, defaults), QuotaUsage())
    quota = parse(QUOTA, held)
    if args.user is None:
        return _table(effective(quota.spec.hard, defaults), quota.status.used)
    hard = next((u.hard for u in quota.spec.users if u.user_id == args.user), QuotaLimits())
    used = (item.used for item in quota.status.used_by_user if item.user_id == args.user)
    return _table(hard, next(used, QuotaUsage()))


def _table(limits: QuotaLimits, used: QuotaUsage | None) -> Table:
    rows = []
    for field in QuotaLimits.model_fields:
        limit = getattr(limits, field)
        use = getattr(used, field, None) if used is not None else None
        rows.append((_wire(field), use, UNLIMITED if limit == -1 else limit))
    return Table(("DIMENSION", "USED", "LIMIT"), tuple(rows))


def _wanted(args: Namespace) -> dict[str, int]:
    given = {field: getattr(args, field) for field in QuotaLimits.model_fields}
    wanted = {_wire(field): value for field, value in given.items() if value is not None}
    if not wanted:
        raise InvalidSpec("no limit was given, such as --cores 20; -1 is unlimited")
    return wanted


async def _update(kube: KubePort, args: Namespace) -> Answer:
    wanted = _wanted(args)
    words = ", ".join(f"{name} {value}" for name, value in wanted.items())
    if args.target == "default" and args.user is None:
        await _put(kube, "QuotaClass", QUOTACLASS_NAME, None, await _class(kube), {"hard": wanted})
        return Answer(f"defaults of all projects: {words}", {"hard": wanted})
    namespace = await _namespace(kube, args.target)
    held = await _held(kube, namespace)
    spec: dict[str, Any] = {"hard": wanted}
    if args.user is not None:
        spec = {"users": _users(held, args.user, wanted)}
    await _put(kube, "Quota", QUOTA_NAME, namespace, held, spec)
    who = f"user {args.user} in {namespace}" if args.user is not None else namespace
    return Answer(f"{who}: {words}", {"namespace": namespace, "user": args.user, "hard": wanted})


def _users(held: Json | None, user: str, wanted: dict[str, int]) -> list[Json]:
    """The list of users with this one's limits changed: a merge patch replaces lists."""
    users: list[Json] = list((held or {}).get("spec", {}).get("users", []))
    old: Json = next((item for item in users if item["userID"] == user), {})
    new = {"userID": user, "hard": {**old.get("hard", {}), **wanted}}
    return [item for item in users if item["userID"] != user] + [new]


async def _put(
    kube: KubePort, kind: str, name: str, namespace: str | None, held: Json | None, spec: Json
) -> None:
    resource = QUOTAS if kind == "Quota" else CLASSES
    if held is None:
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        await kube.create(resource, body, namespace)
        return
    metadata = {"resourceVersion": held["metadata"]["resourceVersion"]}
    await kube.patch(resource, name, {"metadata": metadata, "spec": spec}, namespace)


async def _bind(kube: KubePort, args: Namespace) -> Answer:
    name, project = args.namespace, args.project
    if LABEL_VALUE.fullmatch(project) is None:
        raise InvalidSpec(f"{project} is no project id: letters, digits, '-', '_', '.', at most 63")
    others = [other for other in await _bound(kube, project) if other != name]
    if others:
        raise Conflict(f"project {project} is bound to namespace {others[0]}")
    metadata = (await kube.get(NAMESPACES, name))["metadata"]
    before = (metadata.get("labels") or {}).get(PROJECT_LABEL)
    data = {"namespace": name, "project": project}
    if before == project:
        return Answer(f"{name} is bound to project {project} already", data)
    if before is not None:
        raise Conflict(f"namespace {name} is bound to project {before}")
    change = {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "labels": {PROJECT_LABEL: project},
            "annotations": {BOUND_AT: micro_timestamp(SystemClock().now())},
        }
    }
    await kube.patch(NAMESPACES, name, change)
    return Answer(f"{name} is bound to project {project}", data)


def _limit(text: str) -> int:
    value = int(text)
    if not -1 <= value <= 2147483647:
        raise ValueError(text)
    return value


_LIMITS: tuple[Argument, ...] = tuple(
    argument(f"--{field.replace('_', '-')}", type=_limit, metavar="N", help="-1 is unlimited")
    for field in QuotaLimits.model_fields
)
_USER = argument("--user", help="of one user inside the project")
VERBS = (
    Verb(
        "quota",
        "show",
        "show limits and use of a project; without one the defaults of all",
        on_cluster(_show),
        (argument("target", nargs="?", metavar="PROJECT|NAMESPACE"), _USER),
    ),
    Verb(
        "quota",
        "update",
        "set limits of a project; of 'default': of all that say nothing",
        on_cluster(_update),
        (argument("target", metavar="PROJECT|NAMESPACE|default"), _USER, *_LIMITS),
    ),
    Verb(
        "project",
        "bind",
        "bind a namespace to a project; each to one other only",
        on_cluster(_bind),
        (argument("namespace", metavar="NAMESPACE"), argument("project", metavar="PROJECT")),
    ),
)
