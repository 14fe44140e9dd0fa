"""A guest's console log, as novakube-api gives it to the holder of a token."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from novakube_kit.errors import NotFound, Retryable

TIMEOUT_S = 10.0
SERVICE_HOST = "NOVAKUBE_API_SERVICE_HOST"
"""In the environment of every pod of the API's namespace; clusters without a DNS have no other."""


def read(
    endpoint: Mapping[str, str], token: str, instance: tuple[str, str], env: Mapping[str, str]
) -> str:
    """The last of what the guest wrote.

    Args:
        endpoint: data of the ConfigMap that the operator publishes.
        token: whose rights count.
        instance: namespace and name.
        env: the process's environment.

    Raises:
        NotFound: novakube-api cannot be reached from here.
        Retryable: it answers, with something else than the log.
    """
    url = urlsplit(endpoint.get("apiURL", ""))
    host, port = url.hostname or "", url.port or 443
    path = "/kubectl/v1/namespaces/{}/instances/{}/console-log".format(*map(quote, instance))
    try:
        context = ssl.create_default_context(cadata=endpoint.get("ca.crt"))
        connection = http.client.HTTPSConnection(host, port, context=context, timeout=TIMEOUT_S)
        plain = socket.create_connection((env.get(SERVICE_HOST) or host, port), TIMEOUT_S)
        connection.sock = context.wrap_socket(plain, server_hostname=host)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise NotFound(f"novakube-api at {url.netloc or 'no address'}: {error}") from error
    if answer.status != http.client.OK:
        raise Retryable(f"novakube-api answers {answer.status}: {text[:300]}")
    return text
