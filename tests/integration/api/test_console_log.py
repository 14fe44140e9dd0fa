"""Console logs by Kubernetes token: who may, what they read, and what every failure says."""

from __future__ import annotations

import base64
import json
import ssl
import time
from datetime import UTC, datetime

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from novakube_agent.server import TAIL_MAX
from novakube_api.kubectl.routes import DEFAULT_TAIL_BYTES, MAX_TAIL_BYTES
from novakube_operator.core.certificates import new_authority
from tests.integration.api.cloud import SYSTEM, tls_files, write_files
from tests.integration.api.conftest import LOG, OLDER, World


def failure(answer: httpx.Response, code: int) -> str:
    """The message of a Status answer with this code."""
    assert answer.status_code == code, answer.text
    body = answer.json()
    assert (body["kind"], body["status"], body["code"]) == ("Status", "Failure", code)
    message: str = body["message"]
    return f"{body['reason']}: {message}"


def _segment(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decoded(segment: str) -> dict[str, object]:
    text = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    decoded: dict[str, object] = json.loads(text)
    return decoded


def resigned(token: str, key: ec.EllipticCurvePrivateKey, **claims: object) -> str:
    """The token with other claims, signed (ES256) by the key."""
    header, payload, _ = token.split(".")
    body = json.dumps({**_decoded(payload), **claims}).encode()
    signed = f"{header}.{_segment(body)}"
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_segment(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def cluster_key(world: World) -> ec.EllipticCurvePrivateKey:
    pem = (world.plane.directory / "pki" / "sa.key").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def test_editor_reads_the_end_of_the_log(world: World) -> None:
    answer = world.api.console("web", world.token("editor"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.content == LOG[-DEFAULT_TAIL_BYTES:]


def test_viewer_may_not_and_is_told_which_right(world: World) -> None:
    said = failure(world.api.console("web", world.token("viewer")), 403)
    assert said == (
        'Forbidden: "system:serviceaccount:tenant:viewer" may not get instances/console '
        "in namespace tenant"
    )


def test_right_holds_in_its_own_namespace_only(world: World) -> None:
    token = world.token("editor", "other")
    said = failure(world.api.console("web", token), 403)
    assert '"system:serviceaccount:other:editor" may not get instances/console' in said
    # In its own namespace the same token gets as far as the object.
    assert "NotFound" in failure(world.api.console("web", token, "other"), 404)


def test_whether_an_instance_exists_is_not_told_to_strangers(world: World) -> None:
    token = world.token("editor", "other")
    there, absent = (world.api.console(name, token) for name in ("web", "nothing"))
    assert failure(there, 403) == failure(absent, 403)


def test_no_token(world: World) -> None:
    answer = world.api.console("web")
    assert "Authorization: Bearer" in failure(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_expired_token(world: World) -> None:
    token, now = world.token("editor"), int(time.time())
    twin = resigned(token, cluster_key(world), iat=now - 10, exp=now + 600)
    assert world.api.console("web", twin).status_code == 200
    old = resigned(token, cluster_key(world), iat=now - 7200, nbf=now - 7200, exp=now - 3600)
    assert "expired, or of another cluster" in failure(world.api.console("web", old), 401)


def test_token_of_another_cluster(world: World) -> None:
    foreign = resigned(world.token("editor"), ec.generate_private_key(ec.SECP256R1()))
    assert "of another cluster" in failure(world.api.console("web", foreign), 401)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("nothing", 404, ['NotFound: instances.novakube.dev "nothing" not found']),
        ("waiting", 404, ["instance tenant/waiting is on no node yet (state Pending)"]),
        ("unstarted", 404, ["guest unstarted-1 has no console log yet"]),
        ("on-dead", 504, ["AgentUnreachable: the agent of node dead (127.0.0.1:"]),
        ("on-foreign", 504, ["the agent of node foreign (127.0.0.1:", "certificate verify failed"]),
        ("on-misnamed", 504, ["the agent of node misnamed", "certificate is not valid for"]),
        ("on-silent", 504, ["the agent of node silent has reported no address yet"]),
        ("on-removed", 504, ["on node removed, which has no Hypervisor any more"]),
    ],
)
def test_failures_name_the_cause(world: World, name: str, code: int, words: list[str]) -> None:
    said = failure(world.api.console(name, world.token("editor")), code)
    for word in words:
        assert word in said
    if name == "on-dead":
        assert f"127.0.0.1:{world.dead_port})" in said


@pytest.mark.parametrize("size", [1, 5000, len(LOG), len(LOG) + 100, MAX_TAIL_BYTES])
def test_tail_sizes_reach_into_the_rotated_piece(world: World, size: int) -> None:
    answer = world.api.console("web", world.token("editor"), tailBytes=size)
    assert answer.status_code == 200, answer.text
    assert answer.content == (OLDER + LOG)[-size:]


@pytest.mark.parametrize("size", ["0", "-1", str(MAX_TAIL_BYTES + 1), "much"])
def test_bad_tail_sizes_name_the_parameter(world: World, size: str) -> None:
    answer = world.api.console("web", world.token("editor"), tailBytes=size)
    assert failure(answer, 400).startswith("BadRequest: tailBytes: Input should be ")


def test_bad_names_are_refused(world: World) -> None:
    answer = world.api.console("Web_1", world.token("editor"))
    assert failure(answer, 400).startswith("BadRequest: name: String should match pattern")


def test_api_asks_for_no_more_than_agents_give() -> None:
    assert MAX_TAIL_BYTES == TAIL_MAX


@pytest.mark.parametrize(("name", "code"), [("novakube-api", 200), ("n2", 403)])
def test_agent_answers_the_api_alone(world: World, name: str, code: int) -> None:
    """Every node has a certificate of the same authority; it reads no other node's consoles."""
    assert _asked_as(world, f"as-{name}", tls_files(world.authority, name, ("n2",))) == code


def test_agent_hangs_up_on_another_authority(world: World) -> None:
    tls = tls_files(new_authority(datetime.now(UTC)), "novakube-api", ("n2",))
    tls["ca.crt"] = world.authority.certificate.encode()
    with pytest.raises(httpx.TransportError):
        _asked_as(world, "as-stranger", tls)


def _asked_as(world: World, directory: str, tls: dict[str, bytes]) -> int:
    files = write_files(world.directory / directory, tls)
    context = ssl.create_default_context(cafile=str(files / "ca.crt"))
    context.load_cert_chain(files / "tls.crt", files / "tls.key")
    with httpx.Client(verify=context) as client:
        request = client.build_request(
            "GET", f"https://127.0.0.1:{world.n1.port}/v1/guests/web-1/console-log",
            extensions={"sni_hostname": "n1"},
        )  # fmt: skip
        return client.send(request).status_code


def test_agent_that_refuses_the_api_is_a_bad_gateway(world: World) -> None:
    api = world.another_api("n2-as-api", tls=tls_files(world.authority, "n2", ("127.0.0.1",)))
    api.start()
    try:
        said = failure(api.console("web", world.token("editor")), 502)
        assert said == "AgentFailed: the agent of node n1 answered 403: only novakube-api may ask"
    finally:
        api.stop()


def test_api_without_its_rights_blames_itself_not_the_caller(world: World) -> None:
    token = world.plane.token(SYSTEM, "novakube-agent")
    api = world.another_api("rightless", token=token).start()
    try:
        said = failure(api.console("web", world.token("editor")), 500)
        assert said.startswith("InternalError: novakube-api itself was refused: ")
        assert "tokenreviews" in said
        assert api.get("/readyz").status_code == 500
    finally:
        api.stop()
