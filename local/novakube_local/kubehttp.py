"""A small synchronous client for the local cloud's own calls to the API server.

The processes of novakube use the kit's asynchronous client; this one serves a command line and
test fixtures, which may run inside somebody else's event loop.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from novakube_local.errors import LocalCloudError
from novakube_local.pki import Pair

Json = dict[str, Any]
CALL_TIMEOUT_S = 30.0
RETRY_S = 1.0


class ApiError(LocalCloudError):
    """The server answered with an error; ``code`` is the HTTP status."""

    def __init__(self, method: str, path: str, code: int, message: str) -> None:
        self.code = code
        super().__init__(f"{method} {path}: {code} {message}")


class KubeHttp:
    """Requests as one client certificate or one bearer token."""

    def __init__(
        self, server: str, ca: Path, pair: Pair | None = None, token: str | None = None
    ) -> None:
        """Args: server: ``https://host:port``."""
        url = urlsplit(server)
        self.server = server
        self._host, self._port = url.hostname or "", url.port or 443
        self._context = ssl.create_default_context(cafile=str(ca))
        if pair is not None:
            self._context.load_cert_chain(pair.cert, pair.key)
        self._headers = {"Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        content_type: str = "application/json",
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Json:
        """One request; an answer that is no object comes as ``{"text": ...}``.

        429 (a starting server) is retried within ``timeout_s``.

        Raises:
            ApiError: the server's refusal.
            OSError: no connection.
        """
        give_up_at = time.monotonic() + timeout_s
        while True:
            code, text = self._once(method, path, body, content_type, timeout_s)
            if code == http.client.TOO_MANY_REQUESTS and time.monotonic() < give_up_at:
                time.sleep(RETRY_S)
                continue
            if code >= http.client.BAD_REQUEST:
                raise ApiError(method, path, code, _message(text))
            return _parse(text)

    def _once(
        self, method: str, path: str, body: Json | None, content_type: str, timeout_s: float
    ) -> tuple[int, str]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context, timeout=timeout_s
        )
        try:
            headers = dict(self._headers)
            data = None
            if body is not None:
                headers["Content-Type"] = content_type
                data = json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def ensure(self, collection: str, item: Json) -> Json:
        """Creates an object unless one of that name is there."""
        try:
            return self.call("POST", collection, item)
        except ApiError as error:
            if error.code != http.client.CONFLICT:
                raise
        return self.call("GET", f"{collection}/{item['metadata']['name']}")

    def get(self, path: str) -> Json | None:
        """An object, or None when it is not there."""
        try:
            return self.call("GET", path)
        except ApiError as error:
            if error.code == http.client.NOT_FOUND:
                return None
            raise

    def token(self, namespace: str, account: str, node: str | None = None, ttl_s: int = 600) -> str:
        """A token of a service account, bound to a Node's life when one is named.

        Args:
            namespace: of the service account.
            account: its name.
            node: name of an existing Node.
            ttl_s: seconds of life, at least 600 (the API's minimum).
        """
        spec: Json = {"expirationSeconds": ttl_s}
        if node is not None:
            found = self.call("GET", f"/api/v1/nodes/{node}")
            spec["boundObjectRef"] = {
                "apiVersion": "v1",
                "kind": "Node",
                "name": node,
                "uid": found["metadata"]["uid"],
            }
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.call("POST", path, body)["status"]["token"])


def _message(text: str) -> str:
    return str(_parse(text).get("message", text.strip()))


def _parse(text: str) -> Json:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"text": text}
