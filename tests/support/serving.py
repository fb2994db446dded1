"""``serve`` with any arguments and any environment, as its operator would start it."""

import hashlib
import http.client
import json
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from proxy import keys
from support.commands import environment
from support.proxy import Process, bound

QUICK = ("--port", "0", "--control-port", "0")


class Serve(Process):
    """One server.

    Args:
        folder: working folder and home; ``data`` in it is the data folder, unless ``data_dir`` is None.
        args: arguments of ``serve``; by default free ports.
        extra: environment variables.
        flags: of the Python program.
        prefix: what starts it.
    """

    name = "serve"

    def __init__(
        self,
        folder: Path,
        *args: str,
        data_dir: str | None = "data",
        extra: Mapping[str, str] | None = None,
        flags: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
    ) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.cwd = folder
        self.data = folder / (data_dir or "data")
        named = () if data_dir is None else ("--data-dir", str(self.data))
        self._command = [*prefix, sys.executable, *flags, "-m", "proxy", "serve", *named, *(args or QUICK)]
        self._environment = environment(folder, {"CONNECTOR_PROXY_LOG__FORMAT": "json", **(extra or {})})
        self.told: dict[str, Any] = {}

    def start(self) -> Self:
        """Start and wait for ``server.json``."""
        self.told = self._start(self._command, self._environment, self.data / "server.json")
        self.address = bound(self.told["data"])
        return self

    def launch(self) -> Self:
        """Start and wait for nothing."""
        self.spawn(self._command, self._environment)
        return self

    def attach(self) -> Self:
        """Wait for ``server.json`` of one that was launched; for ``with``."""
        ready = self.data / "server.json"
        self.told = json.loads(until(lambda: ready.exists() and ready.read_text(), 60.0, self))
        self.address = bound(self.told["data"])
        return self

    def __enter__(self) -> Self:
        return self if self.told else self.start()

    def event(self, name: str, *, limit: float = 30.0) -> dict[str, Any]:
        """The first event of that name in its log, once it is there."""
        return until(lambda: next((one for one in self.events() if one["event"] == name), None), limit, self)


def until(look: Callable[[], Any], limit: float, process: Process) -> Any:
    """What ``look`` gives once it gives something; a test's wait for what another process does."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {limit} s:\n{process.log}")


def get(
    address: tuple[str, int] | Path, path: str, key: str | None = None, *, timeout: float = 20.0
) -> tuple[int, dict[str, str], bytes]:
    """One GET on a connection of its own, over TCP or a unix socket: status, headers, body."""
    if isinstance(address, Path):
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        connection.sock.connect(str(address))
    else:
        connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def declared_key() -> tuple[str, str]:
    """A key and the text that declares it."""
    _, key = keys.generate()
    text = key.reveal()
    return text, "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def sidecar(folder: Path, hashed: str, *, upstream_port: int) -> str:
    """Settings of a sidecar: one service, its token from the environment, a declared key, no vault."""
    services = folder / "services"
    services.mkdir()
    (services / "side.toml").write_text(
        'title = "Side"\ndocs = "https://example.com"\nverified = "live"\n'
        f'[[hosts]]\nname = "api"\norigin = "http://127.0.0.1:{upstream_port}"\n'
    )
    return (
        f'[services]\ndirectory = {json.dumps(str(services))}\nenabled = ["side"]\n'
        f'[keys.backend]\nhash = "{hashed}"\nallow = ["side"]\n'
    )
