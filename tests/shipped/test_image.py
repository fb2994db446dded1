"""The image and the compose example say things that the program understands; building them needs a container engine."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import keys
from proxy.settings import Listen, Settings, load_settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text(encoding="utf-8"))


def instructions(name: str) -> list[str]:
    """Arguments of each instruction of that name, in order."""
    return re.findall(rf"^{name}\s+(.*)$", DOCKERFILE, re.MULTILINE)


def image_environment() -> dict[str, str]:
    """The environment that the image's last stage sets."""
    return dict(word.split("=", 1) for word in shlex.split(instructions("ENV")[-1]))


def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> Settings:
    """The settings that a process gets from an environment alone."""
    monkeypatch.chdir(tmp_path)
    return load_settings(None, {"HOME": str(tmp_path), **environment})


def test_the_image_sets_what_it_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers reach the data plane of a container; the control plane stays inside; no key is made in a folder that vanishes."""
    settings = settings_of(tmp_path, monkeypatch, image_environment())
    assert settings.data.listen == (Listen("0.0.0.0", 8080),)
    assert all(listen.host in {"127.0.0.1", "::1", "localhost"} for listen in settings.control.listen)
    assert settings.storage.data_dir == Path("/data")
    assert settings.storage.require_mount


def test_the_image_runs_without_root() -> None:
    """The last stage names a numeric user, so that an orchestrator can see that it is not root."""
    user, _, group = instructions("USER")[-1].partition(":")
    assert int(user) >= 10000
    assert int(group) >= 10000
    assert f"-o {user} -g {group} -m 0700 /data" in DOCKERFILE


def test_the_image_can_be_built_from_what_is_sent() -> None:
    """Everything the build copies exists and passes .dockerignore."""
    sent = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    }
    copied = {
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


def test_the_compose_example_is_a_sidecar_without_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example's proxy has one declared key with one permit, a static token, and memory for a data folder."""
    proxy = COMPOSE["services"]["connector-proxy"]
    _, secret = keys.generate()
    hashed = "sha256:" + keys.digest(secret.reveal().encode()).hex()
    given = {"SLACK_TOKEN": "xoxb-made-up", "PROXY_KEY_HASH": hashed}
    environment = {
        name: re.sub(r"\$\{([A-Z_]+)[^}]*\}", lambda found: given[found.group(1)], value)
        for name, value in proxy["environment"].items()
    }
    settings = settings_of(tmp_path, monkeypatch, image_environment() | environment)
    assert {name: (key.hash, key.allow) for name, key in settings.keys.items()} == {
        "backend": (bytes.fromhex(hashed[7:]), ("slackbot:POST:/api/chat.postMessage",))
    }
    source = settings.sources["slackbot"]
    assert source.kind == "static"
    assert source.token is not None
    assert source.token.read(environment, place="token").reveal() == "xoxb-made-up"
    assert settings.services.enabled == ("slackbot",)
    assert proxy["read_only"] is True
    assert "volumes" not in proxy
    assert proxy["tmpfs"] == ["/data:mode=0700,uid=10001,gid=10001"]


def test_the_backend_of_the_example_never_gets_the_token() -> None:
    """The backend has the proxy key only, and a network that leads nowhere but to the proxy."""
    backend = COMPOSE["services"]["backend"]
    assert "SLACK_TOKEN" not in str(backend["environment"])
    assert backend["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
