"""``demo``: one command, a call through the proxy, an exit status."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import command, environment
from support.serving import get

pytestmark = pytest.mark.traced


def test_once_shows_all_three_sides_and_exits_0(tmp_path: Path) -> None:
    """The caller's key, the service's real token and the answer are shown; nothing is left behind."""
    done = command("demo", "--once", folder=tmp_path, extra={"TMPDIR": str(tmp_path)})
    assert done.code == 0, done
    caller, service, answer = done.out.split("2. ")[0], *done.out.split("2. ")[1].split("3. ")
    assert "Authorization: Bearer cpk_" in caller
    assert "Authorization: Bearer sandbox-token-" in service
    assert "cpk_" not in service
    assert "Ada at Acme" in answer
    assert "sandbox-token-" not in answer
    assert list(tmp_path.iterdir()) == []


def test_the_first_answer_comes_within_seconds(tmp_path: Path) -> None:
    """From start to the first proxied answer it takes a few seconds of processor time, folder and keys included.

    Usually 1 to 3 s, traced for coverage; the bound has room for a machine that is many times slower.
    """
    before = os.times()
    assert command("demo", "--once", "--json", folder=tmp_path).document["ok"] is True
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 25.0


def test_it_runs_until_ctrl_c_and_ignores_our_own_settings(tmp_path: Path) -> None:
    """The printed address and key work until SIGINT; a real data folder in the environment is not touched."""
    real = tmp_path / "real"
    child = subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path, {"TMPDIR": str(tmp_path), "CONNECTOR_PROXY_DATA_DIR": str(real)}),
        cwd=tmp_path,
    )
    assert child.stdout is not None
    try:
        told = json.loads(child.stdout.readline())
        host, _, port = told["data"].removeprefix("http://").rpartition(":")
        status, _, body = get((host, int(port)), "/sandbox/v1/things?x=1", told["key"])
        assert (status, json.loads(body)["you_called"]) == (200, "GET /v1/things?x=1")
        assert get((host, int(port)), "/sandbox/v1/things")[0] == 401
    finally:
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 0
    assert b"Traceback" not in errors
    assert not real.exists()
    assert list(tmp_path.iterdir()) == []
