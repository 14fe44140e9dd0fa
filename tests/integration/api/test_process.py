"""The process: health, metrics, an API server that is away, a rotated certificate, its end."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

from cryptography import x509

from tests.deadlines import EVENT_S, READY_S
from tests.integration.api.cloud import ApiProcess, tls_files, write_files
from tests.integration.api.conftest import World
from tests.ports import free_port
from tests.waiting import wait_until_sync


def serial(api: ApiProcess) -> int:
    """Of the certificate shown to a new connection."""
    port = int(api.url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        api.trust().wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def requests_counted(api: ApiProcess, code: int) -> float:
    pattern = (
        r"^novakube_http_requests_total\{code=\"%d\",method=\"GET\",route=\"[^\"]*"
        r"/instances/\{name\}/console-log\"\} (\S+)$"
    )
    found = re.search(pattern % code, api.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_health_and_readiness(world: World) -> None:
    for path in ("/healthz", "/readyz"):
        answer = world.api.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_unknown_paths_answer_in_kubernetes_shape(world: World) -> None:
    answer = world.api.get("/nowhere")
    assert answer.status_code == 404
    assert answer.json()["message"] == "GET /nowhere: Not Found"


def test_requests_are_counted_by_route_and_code(world: World) -> None:
    before = requests_counted(world.api, 200), requests_counted(world.api, 401)
    world.api.console("web", world.token("editor"))
    world.api.console("web")
    after = requests_counted(world.api, 200), requests_counted(world.api, 401)
    assert after == (before[0] + 1, before[1] + 1)


def test_api_server_away_is_503_and_no_reason_to_restart(world: World) -> None:
    api = world.another_api("away", server=f"https://127.0.0.1:{free_port()}").start()
    try:
        for answer in (api.get("/readyz"), api.console("web", "any")):
            assert answer.status_code == 503, answer.text
            assert answer.json()["reason"] == "ApiUnavailable"
            assert "no answer from the Kubernetes API" in answer.json()["message"]
        assert api.get("/healthz").status_code == 200
    finally:
        api.stop()


def test_rotated_certificate_is_shown_and_used_without_restart(world: World) -> None:
    """Also towards agents: the old pair's name was refused, the new one's is not."""
    api = world.another_api("rotated", tls=tls_files(world.authority, "n2", ("127.0.0.1",)))
    api.start()
    try:
        old, token = serial(api), world.token("editor")
        assert api.console("web", token).status_code == 502
        write_files(api.tls_dir, tls_files(world.authority, "novakube-api", ("127.0.0.1",)))
        wait_until_sync(lambda: serial(api) != old, "the new certificate is shown", EVENT_S)
        assert api.console("web", token).status_code == 200
        assert api.process is not None
        assert api.process.poll() is None
    finally:
        api.stop()


def test_half_written_pair_is_passed_over(world: World) -> None:
    api = world.another_api("half").start()
    try:
        old = serial(api)
        new = tls_files(world.authority, "novakube-api", ("127.0.0.1",))
        write_files(api.tls_dir, {"tls.key": new["tls.key"]})
        wait_until_sync(
            lambda: "Certificate not loaded" in api.log.read_text(), "the refusal", EVENT_S
        )
        assert serial(api) == old
        write_files(api.tls_dir, new)
        wait_until_sync(lambda: serial(api) != old, "the whole pair is shown", EVENT_S)
    finally:
        api.stop()


def test_sigterm_ends_it_with_success(world: World) -> None:
    assert world.another_api("ended").start().stop() == 0


def refused(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "novakube_api.main"],
        env=environment, cwd="/", capture_output=True, text=True, timeout=READY_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    said: str = json.loads(line)["msg"]
    assert said.startswith("Not started: ")
    return said


def test_refuses_to_start_with_one_clear_line(world: World, tmp_path: Path) -> None:
    good = world.another_api("refused").environment
    assert "NOVAKUBE_HTTP must be host:port" in refused({**good, "NOVAKUBE_HTTP": "8774"})
    late = {**good, "NOVAKUBE_TLS_WAIT": "soon"}
    assert "NOVAKUBE_TLS_WAIT must be seconds" in refused(late)
    empty = {**good, "NOVAKUBE_TLS_DIR": str(tmp_path), "NOVAKUBE_TLS_WAIT": "0.1"}
    assert "Secret novakube-system/novakube-api-tls; is it running?" in refused(empty)
    broken = write_files(tmp_path, dict.fromkeys(("tls.crt", "tls.key", "ca.crt"), b"x"))
    said = refused({**good, "NOVAKUBE_TLS_DIR": str(broken)})
    assert f"tls.crt and tls.key in {broken} cannot be used" in said
