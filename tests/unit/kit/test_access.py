import base64
from pathlib import Path

import pytest
import yaml

from novakube_kit.access import discover, from_kubeconfig
from novakube_kit.errors import InvalidSpec


def a_kubeconfig(path: Path, user: dict, cluster: dict | None = None) -> Path:
    file = path / "config"
    document = {
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "demo"}}
        ],
        "clusters": [{"name": "c", "cluster": cluster or {"server": "https://api:6443/"}}],
        "users": [{"name": "u", "user": user}],
    }
    file.write_text(yaml.safe_dump(document))
    return file


async def test_settings_come_first(tmp_path: Path):
    (tmp_path / "ca").write_text("PEM")
    (tmp_path / "token").write_text("secret")
    access = discover(
        {
            "NOVAKUBE_API_SERVER": "https://api:6443/",
            "NOVAKUBE_CA_FILE": str(tmp_path / "ca"),
            "NOVAKUBE_TOKEN_FILE": str(tmp_path / "token"),
            "KUBECONFIG": "/nowhere",
        }
    )
    assert (access.server, access.ca_pem) == ("https://api:6443", "PEM")
    assert await access.token.token() == "secret"


async def test_a_kubeconfig_with_client_certificates_inline_and_as_files(tmp_path: Path):
    (tmp_path / "tls.key").write_text("KEY")
    user = {
        "client-certificate-data": base64.b64encode(b"CERT").decode(),
        "client-key": "tls.key",
    }
    access = discover({"KUBECONFIG": str(a_kubeconfig(tmp_path, user))})
    assert (access.certificate_pem, access.key_pem, access.token) == ("CERT", "KEY", None)
    assert (access.server, access.namespace) == ("https://api:6443", "demo")


@pytest.mark.parametrize("user", [{"token": "secret"}, {"tokenFile": "t"}])
async def test_a_kubeconfig_with_a_token(tmp_path: Path, user: dict):
    (tmp_path / "t").write_text("secret\n")
    access = from_kubeconfig(a_kubeconfig(tmp_path, user))
    assert await access.token.token() == "secret"


@pytest.mark.parametrize(
    ("user", "cluster", "want"),
    [
        ({"exec": {"command": "aws"}}, None, r"users\[\]\.user\.exec is not supported"),
        ({"client-key-data": "%"}, None, "client-key-data is not base64"),
        ({"client-key": "missing.pem"}, None, "client-key .*missing.pem"),
        ({}, {"certificate-authority-data": "QQ=="}, "has no server"),
        ({}, {"server": "https://a", "insecure-skip-tls-verify": True}, "is refused"),
    ],
)
def test_what_is_wrong_in_a_kubeconfig_is_named(
    tmp_path: Path, user: dict, cluster: dict | None, want: str
):
    with pytest.raises(InvalidSpec, match=want):
        from_kubeconfig(a_kubeconfig(tmp_path, user, cluster))


def test_a_missing_context_is_named(tmp_path: Path):
    with pytest.raises(InvalidSpec, match="contexts has no entry named 'other'"):
        from_kubeconfig(a_kubeconfig(tmp_path, {}), "other")


def test_nothing_at_all_says_what_to_set(tmp_path: Path):
    with pytest.raises(InvalidSpec, match="set NOVAKUBE_API_SERVER"):
        discover({"HOME": str(tmp_path)})


def test_a_server_without_a_token_file_is_refused():
    with pytest.raises(InvalidSpec, match="NOVAKUBE_TOKEN_FILE is not"):
        discover({"NOVAKUBE_API_SERVER": "https://api"})
