"""Kubernetes' own authentication and authorization for the kubectl routes.

A bearer token is reviewed by the API server (TokenReview), then the right asked for is
(SubjectAccessReview). Nothing is decided here, and nothing is granted by being inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from novakube_kit.errors import Forbidden
from novakube_kit.kube import KubePort
from novakube_kit.resources import SUBJECTACCESSREVIEWS, TOKENREVIEWS


class Unauthenticated(Forbidden):
    """There is no token, or the API server does not know it."""

    reason = "Unauthorized"


class Denied(Forbidden):
    """The caller lacks the right.

    A plain ``Forbidden`` comes from our own requests: then it is novakube-api that lacks one.
    """


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom the API server says the token belongs to."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a resource of the novakube.dev group."""

    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}/{self.subresource} in namespace {self.namespace}"


def bearer_token(header: str | None) -> str:
    """The token of an Authorization header.

    Raises:
        Unauthenticated: when there is none.
    """
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("an 'Authorization: Bearer <Kubernetes token>' header is required")
    return token.strip()


async def authenticate(kube: KubePort, token: str) -> Caller:
    """Asks the API server who the token belongs to.

    Raises:
        Unauthenticated: an unknown or expired token.
        ApiUnavailable: the API server did not answer.
    """
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    }
    status: dict[str, Any] = (await kube.create(TOKENREVIEWS, body)).get("status", {})
    if not status.get("authenticated"):
        raise Unauthenticated("the token is not valid (expired, or of another cluster)")
    user = status["user"]
    return Caller(
        username=user["username"],
        uid=user.get("uid", ""),
        groups=tuple(user.get("groups", ())),
        extra=user.get("extra", {}),
    )


async def authorize(kube: KubePort, caller: Caller, right: Right) -> None:
    """Asks the API server whether the caller has a right.

    Raises:
        Denied: it has not; the message names caller and right.
        ApiUnavailable: the API server did not answer.
    """
    spec: dict[str, Any] = {
        "user": caller.username,
        "uid": caller.uid,
        "groups": list(caller.groups),
        "extra": caller.extra,
        "resourceAttributes": {
            "group": "novakube.dev",
            "version": "v1alpha1",
            "verb": right.verb,
            "resource": right.resource,
            "subresource": right.subresource,
            "namespace": right.namespace,
            "name": right.name,
        },
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": spec,
    }
    status = (await kube.create(SUBJECTACCESSREVIEWS, body)).get("status", {})
    if not status.get("allowed"):
        raise Denied(f'"{caller.username}" may not {right}')
