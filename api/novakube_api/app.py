"""The ASGI application: routes, error answers, health and metrics."""

from __future__ import annotations

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from novakube_api import faults
from novakube_api.agents import AgentClient
from novakube_api.kubectl.routes import router as kubectl_router
from novakube_api.requests import Measured
from novakube_kit.errors import NovakubeError
from novakube_kit.kube import KubePort
from novakube_kit.resources import SUBJECTACCESSREVIEWS

ANONYMOUS_REVIEW = {
    "apiVersion": "authorization.k8s.io/v1",
    "kind": "SubjectAccessReview",
    "spec": {
        "user": "system:anonymous",
        "nonResourceAttributes": {"path": "/healthz", "verb": "get"},
    },
}


def build(kube: KubePort, agents: AgentClient) -> FastAPI:
    """The application over a Kubernetes client and an agent client."""
    app = FastAPI(title="novakube-api", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.kube = kube
    app.state.agents = agents
    app.add_middleware(Measured)
    app.add_exception_handler(NovakubeError, faults.answer)
    app.add_exception_handler(RequestValidationError, faults.invalid)
    app.add_exception_handler(HTTPException, faults.http)
    app.include_router(kubectl_router)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Alive: the process answers.

        It does not ask the API server, so that an outage of
        that does not restart every replica.
        """
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Ready: reviews are possible (an anonymous SubjectAccessReview is answered)."""
        await kube.create(SUBJECTACCESSREVIEWS, ANONYMOUS_REVIEW)
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app
