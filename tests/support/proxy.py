"""The program under test as a process of its own: configured, started, watched and stopped."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from proxy import keys
from support.raw import Address

TOKEN = "upstream-token-0123456789"
ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 60.0  # of a busy machine
STOP_LIMIT = 60.0


def service_file(origin: str, **extra: str) -> str:
    """The TOML of a service with one host; ``extra`` are further top-level lines."""
    lines = [
        'title = "Test"',
        'docs = "https://up.example/docs"',
        'console = "https://up.example/apps"',
        'verified = "live"',
        *(f"{key} = {value}" for key, value in extra.items()),
        "[[hosts]]",
        'name = "api"',
        f'origin = "{origin}"',
    ]
    return "\n".join(lines) + "\n"


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """A configuration as text; values as JSON, which TOML reads alike for strings, numbers, lists and booleans."""
    lines: list[str] = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        for key, value in table.items():
            if isinstance(value, Mapping):
                inner = ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())
                lines.append(f"{key} = {{ {inner} }}")
            else:
                lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


class NotReadyError(RuntimeError):
    """It did not end, and was not ready in its time."""


class Process:
    """A child that listens; ``address`` and ``key`` are what a caller needs."""

    name = "process"
    cwd = ROOT
    start_limit = START_LIMIT

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address: Address = ("127.0.0.1", 0)
        self.key = ""
        self._child: subprocess.Popen[bytes] | None = None
        self._out = folder / "stdout.txt"
        self._err = folder / "stderr.txt"

    def spawn(self, command: list[str], environment: Mapping[str, str]) -> None:
        """Starts it and waits for nothing."""
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(environment), cwd=self.cwd
            )

    def _start(self, command: list[str], environment: Mapping[str, str], ready: Path) -> dict[str, Any]:
        self.spawn(command, environment)
        assert self._child is not None
        limit = time.monotonic() + self.start_limit
        while time.monotonic() < limit:
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._child.returncode} at start:\n{self.log}")
            try:
                told = json.loads(ready.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.02)
                continue
            if told.get("pid") == self._child.pid:
                return dict(told)
        self.kill()
        raise NotReadyError(f"{self.name} was not ready after {self.start_limit} s:\n{self.log}")

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def log(self) -> str:
        """Everything it has printed, on both streams."""
        return "".join(f.read_text(errors="replace") for f in (self._out, self._err) if f.exists())

    def events(self) -> list[dict[str, Any]]:
        """The JSON events of its log, in order."""
        return list(_events(self.log))

    def rss(self) -> int:
        """Resident memory, bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def sockets(self) -> list[Any]:
        """Its open TCP connections (psutil's tuples)."""
        return list(psutil.Process(self.pid).net_connections("tcp"))

    def signal(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def wait(self, limit: float = STOP_LIMIT) -> int:
        """Its exit status, once it has ended by itself."""
        assert self._child is not None
        return self._child.wait(limit)

    def kill(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait(STOP_LIMIT)

    def stop(self) -> int:
        """Asks it to end; its exit status."""
        assert self._child is not None
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                return self._child.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return self._child.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ProxyProcess(Process):
    """``connector-proxy serve`` with a declared key, static tokens and user services.

    Args:
        folder: an empty folder for configuration, data and output.
        ca_file: roots for the scripted upstreams.
        connect_to: ``host:port`` of a catalog origin -> ``host:port`` of a scripted upstream.
        services: type id -> text of its file. Each gets the static token :data:`TOKEN`.
        settings: further tables of ``proxy.toml``; they win over the ones made here.
        allow: permits of the declared key.
        environment: further variables.
        tokenless: services that get no static token.
        port: of the data plane.
    """

    name = "connector-proxy"

    def __init__(
        self,
        folder: Path,
        *,
        ca_file: Path | None = None,
        connect_to: Mapping[str, str] | None = None,
        services: Mapping[str, str] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        allow: tuple[str, ...] = ("*",),
        environment: Mapping[str, str] | None = None,
        tokenless: tuple[str, ...] = (),
        port: int = 0,
    ) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._port = port
        self.data_dir = folder / "data"
        key_id, secret = keys.generate()
        self.key_id, self.key = key_id, secret.reveal()
        files = folder / "services"
        files.mkdir(exist_ok=True)
        for type_id, text in (services or {}).items():
            (files / f"{type_id}.toml").write_text(text)
        tables: dict[str, dict[str, Any]] = {
            "services": {"directory": str(files)},
            "egress": {},
            "data": {"drain_s": 3},
            "keys.test": {
                "hash": "sha256:" + hashlib.sha256(self.key.encode()).hexdigest(),
                "allow": list(allow),
            },
            "log": {"format": "json", "level": "info"},
        }
        if connect_to:
            tables["egress"]["connect_to"] = dict(connect_to)
        if ca_file is not None:
            tables["egress"]["ca_file"] = str(ca_file)
        for name, table in (settings or {}).items():
            tables.setdefault(name, {}).update(table)
        self.config = folder / "proxy.toml"
        self.config.write_text(toml(tables))
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("CONNECTOR_PROXY_")}
        self._environment.update(
            {
                f"CONNECTOR_PROXY_TOKEN_{type_id.upper()}": TOKEN
                for type_id in services or {}
                if type_id not in tokenless
            }
        )
        self._environment.update({"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(environment or {})})
        self.control: Address = ("127.0.0.1", 0)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that it and its commands run with."""
        return self._environment

    def start(self) -> Self:
        """Starts it and waits until it says where it listens."""
        ready = self.data_dir / "server.json"
        command = [
            sys.executable,
            "-m",
            "proxy",
            "serve",
            "--config",
            str(self.config),
            "--data-dir",
            str(self.data_dir),
        ]
        told = self._start(
            [*command, "--port", str(self._port), "--control-port", "0"], self._environment, ready
        )
        self.address = bound(told["data"])
        self.control = bound(told["control"])
        return self

    def command(self, *words: str, text: str = "") -> str:
        """Runs one command of the program on this configuration and data folder; its standard output."""
        where = ("--config", str(self.config), "--data-dir", str(self.data_dir))
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *words, *where],
            input=text,
            capture_output=True,
            text=True,
            timeout=START_LIMIT,
            check=False,
            env=self._environment,
            cwd=ROOT,
        )
        if done.returncode:
            raise RuntimeError(f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def __enter__(self) -> Self:
        return self.start()


def bound(told: Any) -> Address:
    """The first IPv4 address of an entry of ``server.json`` (a text or a list of texts)."""
    for text in [told] if isinstance(told, str) else told:
        host, _, port = str(text).removeprefix("http://").removeprefix("https://").rstrip("/").rpartition(":")
        if not host.startswith("["):
            return host, int(port)
    raise ValueError(f"no IPv4 address in {told!r}")


class NaiveProcess(Process):
    """The broken twin: an ordinary reverse proxy that the same suite has to find wanting."""

    name = "naive twin"

    def __init__(self, folder: Path, *, upstream: str, ca_file: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._upstream, self._ca_file = upstream, ca_file
        self.key = "unused"

    def __enter__(self) -> Self:
        ready = self.folder / "server.json"
        script = ROOT / "tests" / "wire" / "naive.py"
        told = self._start(
            [sys.executable, str(script), self._upstream, str(self._ca_file), str(ready)], os.environ, ready
        )
        self.address = bound(told["data"])
        return self

    def stop(self) -> int:
        """Kills it: it would wait a minute for the requests that it has lost."""
        self.kill()
        return -9


def _events(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            yield event
