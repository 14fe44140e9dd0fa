"""The ASGI application: routes, error answers, health and metrics."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from novakube_api import faults
from novakube_api.agents import AgentClient
from novakube_api.authorization import ACCESS_REVIEWS
from novakube_api.kubectl.routes import router as kubectl_router
from novakube_kit.errors import NovakubeError
from novakube_kit.kube import KubePort


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """400 naming each parameter, where FastAPI would answer 422 with its own shape."""
    if not isinstance(error, RequestValidationError):
        raise error
    message = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
    return JSONResponse(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": message,
            "reason": "BadRequest",
            "code": 400,
        },
        status_code=400,
    )


def build(kube: KubePort, agents: AgentClient) -> FastAPI:
    """The application over a Kubernetes client and an agent client."""
    app = FastAPI(title="novakube-api", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.kube = kube
    app.state.agents = agents
    app.add_exception_handler(NovakubeError, faults.answer)
    app.add_exception_handler(RequestValidationError, _invalid)
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
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": "system:anonymous",
                "nonResourceAttributes": {"path": "/healthz", "verb": "get"},
            },
        }
        await kube.create(ACCESS_REVIEWS, review)
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app
