"""``serve --workers N`` before a service that answers at once, or when it is told to."""

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from support.serving import Serve, get, until

SERVICE = """\
title = "Side"
docs = "https://example.com"
verified = "live"
[[hosts]]
name = "api"
origin = "http://127.0.0.1:{port}"
[rate_limit.headers]
X-RateLimit-Limit = "count"
X-RateLimit-Remaining = "count"
"""


class Service:
    """A service on loopback: ``/slow`` answers after :attr:`gate` was set, everything else at once."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.waiting = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path.startswith("/slow"):
                    service.waiting += 1
                    service.gate.wait(20)
                    service.waiting -= 1
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.send_header("X-RateLimit-Limit", "5000")
                self.send_header("X-RateLimit-Remaining", "4321")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A caller that is killed is what these tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


_PASSWORD = re.compile(r"\w{4}(?:-\w{4}){4}")


class Crew(Serve):
    """A server of several processes; ``extra`` is further text of its settings, ``args`` further arguments."""

    def __init__(
        self, folder: Path, service: Service, *args: str, workers: int = 2, extra: str = "", **options: Any
    ) -> None:
        (folder / "services").mkdir(parents=True)
        (folder / "services" / "side.toml").write_text(SERVICE.format(port=service.port))
        self.settings = folder / "proxy.toml"
        self.text = (
            '[services]\ndirectory = "services"\nenabled = ["side"]\n'
            '[egress]\nallow_addresses = ["127.0.0.1/32"]\n[data]\ndrain_s = 10\n' + extra
        )
        self.settings.write_text(self.text)
        ports = ("--port", "0", "--control-port", "0")
        environment = {"CONNECTOR_PROXY_TOKEN_SIDE": "token-of-side", **options.pop("environment", {})}
        super().__init__(folder, *ports, *args, "--workers", str(workers), extra=environment, **options)

    def start(self) -> "Crew":
        """Start and wait until every worker answers; ``key`` is the first key, ``password`` the operator's."""
        super().start()
        first = self.data / "first-run"
        if first.exists():
            words = first.read_text().split()
            self.key = next(word for word in words if word.startswith("cpk_"))
            self.password = next(word for word in words if _PASSWORD.fullmatch(word))
        return self

    @property
    def control(self) -> tuple[str, int]:
        """Where the control plane listens."""
        host, _, port = self.told["control"][0].rpartition(":")
        return host, int(port)

    def workers(self) -> list[psutil.Process]:
        """Its workers, oldest first."""
        found = [
            one for one in psutil.Process(self.pid).children() if any("__worker__" in w for w in cmdline(one))
        ]
        return sorted(found, key=lambda one: one.create_time())

    def holder(self, port: int) -> psutil.Process:
        """The worker that holds the connection from that local port."""

        def look() -> psutil.Process | None:
            for one in self.workers():
                for held in one.net_connections("tcp"):
                    if held.raddr and held.raddr.port == port and held.laddr.port == self.address[1]:
                        return one
            return None

        return until(look, 30, self)

    def by_worker(self) -> Counter[int]:
        """Requests in the log, by the worker that wrote the line."""
        return Counter(one["worker"] for one in self.events() if one["event"] == "request")

    def ready(self, number: int = 2) -> None:
        """Wait until so many workers answer."""
        until(lambda: self.readiness()[0] == 200 and len(self.workers()) == number, 30, self)

    def readiness(self) -> tuple[int, dict[str, str]]:
        """What ``/readyz`` says: status and checks."""
        status, _, body = get(self.control, "/readyz")
        return status, json.loads(body)["checks"]

    def metrics(self) -> dict[str, float]:
        """``/metrics``, summed over labels: name without prefix -> value."""
        text = get(self.control, "/metrics")[2].decode()
        out: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.removeprefix("connector_proxy_")
                out[name] = out.get(name, 0) + sample.value
        return out

    def connected(self, path: str = "/side/x", key: str | None = None) -> socket.socket:
        """A new connection on which a request has been sent."""
        one = socket.create_connection(self.address, 5)
        one.settimeout(30)
        one.sendall(
            f"GET {path} HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {key or self.key}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        return one

    def whole_log(self) -> None:
        """Every line on standard error is one whole JSON event."""
        for line in self._err.read_text().splitlines():
            assert json.loads(line)["event"], line


def cmdline(process: psutil.Process) -> list[str]:
    """Its command line; nothing when it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def answer(one: socket.socket) -> int:
    """The status of the answer, read whole; 0 when the connection was reset or ended before."""
    raw = bytearray()
    try:
        with one:
            while part := one.recv(65536):
                raw += part
    except ConnectionError:
        return 0
    return int(raw[9:12]) if raw.startswith(b"HTTP/1.1 ") and raw.endswith(b"ok") else _refused(raw)


def _refused(raw: bytearray) -> int:
    return int(raw[9:12]) if raw.startswith(b"HTTP/1.1 ") and not raw.startswith(b"HTTP/1.1 200") else 0


@contextmanager
def calling(work: Callable[[], None], threads: int = 4) -> Iterator[None]:
    """Do something again and again from several threads; a failure there fails here."""
    over = threading.Event()
    faults: list[BaseException] = []

    def run() -> None:
        try:
            while not over.is_set():
                work()
        except BaseException as fault:  # noqa: BLE001  # it is raised below
            faults.append(fault)

    running = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for one in running:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in running:
            one.join(15)
    if faults:
        raise faults[0]


def gone(processes: list[psutil.Process], limit: float = 20.0) -> bool:
    """Whether all of them ended within ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if not any(
            one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes if alive(one)
        ):
            return True
        time.sleep(0.02)
    return False


def alive(one: psutil.Process) -> bool:
    """Whether the process is there, in whatever state."""
    return psutil.pid_exists(one.pid)
