"""The kubectl plugin as people run it: through kubectl, with their kubeconfig."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from novakube_local import binaries
from tests.integration.api.cloud import PLUGIN, bind
from tests.integration.api.conftest import LOG, World


def run(kubeconfig: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    """A line in bash, with kubectl and its plugin on PATH."""
    folders = [str(binaries.require("kubectl").parent), str(PLUGIN.parent), os.environ["PATH"]]
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={
            "PATH": ":".join(folders), "HOME": str(kubeconfig.parent), "KUBECONFIG": str(kubeconfig)
        },
        cwd="/", capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def failed(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert done.stdout == b""
    return said


def with_user(world: World, path: Path, user: dict[str, str], namespace: str = "tenant") -> Path:
    """A kubeconfig of the cluster with this user entry."""
    config = yaml.safe_load(world.plane.kubeconfig.read_text())
    config["users"][0]["user"] = user
    config["contexts"][0]["context"]["namespace"] = namespace
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def editor(world: World, tmp_path: Path) -> Path:
    return with_user(world, tmp_path / "editor", {"token": world.token("editor")})


def test_token_of_the_kubeconfig(editor: Path) -> None:
    done = run(editor, "kubectl novakube console-log web")
    assert done.returncode == 0, done.stderr
    assert done.stdout == LOG[-102400:]
    assert run(editor, "kubectl novakube console-log web --tail-bytes 7").stdout == LOG[-7:]


def test_token_file_beside_the_kubeconfig_wins_over_a_token(world: World, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(world.token("editor"))
    user = {"tokenFile": "token", "token": "old"}
    done = run(with_user(world, tmp_path / "config", user), "kubectl novakube console-log web")
    assert done.returncode == 0, done.stderr


def test_missing_token_file(world: World, tmp_path: Path) -> None:
    config = with_user(world, tmp_path / "config", {"tokenFile": "nothing"})
    trust = f"--api-url {world.api.url} --ca-file {world.api.tls_dir}/ca.crt"
    line = f"kubectl novakube console-log web {trust}"
    assert "tokenFile of the kubeconfig" in failed(run(config, line))


def test_refusal_names_caller_and_right(world: World, tmp_path: Path) -> None:
    config = with_user(world, tmp_path / "viewer", {"token": world.token("viewer")})
    assert failed(run(config, "kubectl novakube console-log web")) == (
        'error: "system:serviceaccount:tenant:viewer" may not get instances/console '
        "in namespace tenant (Forbidden)\n"
    )


def test_mistakes_are_answered_in_words(editor: Path) -> None:
    missing = failed(run(editor, "kubectl novakube console-log nothing"))
    assert 'instances.novakube.dev "nothing" not found (NotFound)' in missing
    size = failed(run(editor, "kubectl novakube console-log web --tail-bytes 0"))
    assert "tailBytes: Input should be greater than or equal to 1" in size
    odd = failed(run(editor, "kubectl novakube console-log ../x"))
    assert "HTTP" not in odd
    plain = failed(run(editor, "kubectl novakube console-log web --api-url http://127.0.0.1:1"))
    assert "must begin with https://" in plain
    away = failed(run(editor, "kubectl novakube console-log web --api-url https://127.0.0.1:1"))
    assert "novakube-api at https://127.0.0.1:1 does not answer" in away
    context = failed(run(editor, "kubectl novakube console-log web --context nowhere"))
    assert "nowhere" in context


def test_reader_that_has_enough_is_no_error(editor: Path) -> None:
    line = "kubectl novakube console-log web --tail-bytes 250000 | head -c 10"
    done = run(editor, f"set +o pipefail; {line}")
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 10, b"")


def test_client_certificate_mints_a_token_after_following_the_hint(world: World) -> None:
    """The commands of the hint are run as they are printed, nothing added."""
    namespace = "fresh"
    world.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    config = world.plane.user("alice")
    subject = {"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}
    bind(world.admin, namespace, "cluster-admin", subject)
    line = f"kubectl novakube console-log web -n {namespace} --kubeconfig {config}"
    said = failed(run(config, line))
    assert "there is no ServiceAccount fresh/novakube-cli" in said
    commands = re.findall(r"^  (kubectl .*)$", said, re.MULTILINE)
    assert len(commands) == 3
    assert "(NotFound)" not in said
    for command in commands:
        done = run(config, command)
        assert done.returncode == 0, done.stderr
    # As far as the object: this namespace has no Instance.
    assert 'instances.novakube.dev "web" not found (NotFound)' in failed(run(config, line))


def test_minted_token_reads_the_log_and_lives_ten_minutes(world: World, tmp_path: Path) -> None:
    world.plane.kubectl("create", "serviceaccount", "novakube-cli", "-n", "tenant")
    world.plane.kubectl(
        "create", "role", "novakube-cli", "-n", "tenant", "--verb=get",
        "--resource=instances.novakube.dev/console",
    )  # fmt: skip
    world.plane.kubectl(
        "create", "rolebinding", "novakube-cli", "-n", "tenant", "--role=novakube-cli",
        "--serviceaccount=tenant:novakube-cli",
    )  # fmt: skip
    done = run(world.plane.kubeconfig, "kubectl novakube console-log web -n tenant")
    assert done.returncode == 0, done.stderr
    assert done.stdout == LOG[-102400:]
    assert 'TOKEN_LIFE = "10m"' in PLUGIN.read_text()


def test_who_may_not_mint_is_told_so(world: World) -> None:
    config = world.plane.user("bob")
    said = failed(run(config, "kubectl novakube console-log web -n other"))
    assert "no token of ServiceAccount other/novakube-cli" in said
    assert 'User "bob" cannot create resource "serviceaccounts/token"' in said
    assert "create serviceaccount" not in said.split("\n", 1)[1]
