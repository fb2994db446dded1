"""connector-proxy as the benchmarks start it: key check, permit, token, injection, metrics and access log all on."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peers import ROOT, SCHEMES, SERVER_NAME, TOKEN, Subject, Upstream
from processes import BenchError, Cores, last_words, running

sys.path.insert(0, str(ROOT))

from proxy import keys

_SERVICES = {"plain": "bench", "tls": "benchtls"}
_SECONDS_TO_START = 20.0


@dataclass(frozen=True, slots=True)
class Key:
    """A proxy key for this run: what callers present, and the hash that the configuration declares."""

    presented: str
    hash: str

    @classmethod
    def generate(cls) -> "Key":
        """A new one, by the project's own generator."""
        _, key = keys.generate()
        return cls(key.reveal(), "sha256:" + keys.digest(key.reveal().encode()).hex())


def _write_configuration(folder: Path, up: Upstream, key: Key, in_flight: int) -> Path:
    """``proxy.toml`` and two user services, one with a plain and one with a TLS upstream."""
    services = folder / "services"
    services.mkdir()
    origins = {"plain": f"http://127.0.0.1:{up.ports['plain']}", "tls": f"https://{SERVER_NAME}"}
    for scheme, service in _SERVICES.items():
        (services / f"{service}.toml").write_text(
            f'title = "Benchmark, {scheme}"\n'
            'docs = "https://bench.test/docs"\n'
            'verified = "live"\n'
            "[[hosts]]\n"
            'name = "api"\n'
            f'origin = "{origins[scheme]}"\n'
        )
    text = (
        f"[services]\ndirectory = {json.dumps(str(services))}\n"
        f"[egress]\nca_file = {json.dumps(str(up.ca_file))}\n"
        f'connect_to = {{ "{SERVER_NAME}:443" = "127.0.0.1:{up.ports["tls"]}" }}\n'
        f'[keys.bench]\nhash = "{key.hash}"\nallow = ["*"]\n'
    )
    if in_flight:
        text += f"[limits]\nconnections = {in_flight + 100}\nupstream_per_service = {in_flight + 100}\n"
    path = folder / "proxy.toml"
    path.write_text(text)
    return path


@contextmanager
def us(
    up: Upstream, folder: Path, cores: Cores, key: Key, *, in_flight: int = 0, profile: Path | None = None
) -> Iterator[Subject]:
    """The program under test, ready; ``in_flight`` raises its limits, ``profile`` runs it under cProfile."""
    configuration, data, output = (
        _write_configuration(folder, up, key, in_flight),
        folder / "data",
        folder / "log",
    )
    prefix = [sys.executable] if profile is None else [sys.executable, "-m", "cProfile", "-o", str(profile)]
    command = [*prefix, "-m", "proxy", "serve", "--config", configuration, "--data-dir", data]
    command += ["--host", "127.0.0.1", "--port", "0", "--control-port", "0"]
    tokens = {f"CONNECTOR_PROXY_TOKEN_{service.upper()}": TOKEN for service in _SERVICES.values()}
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_PROXY_")
    }
    environment |= {"PYTHONPATH": str(ROOT), **tokens}
    with running(command, core=cores.proxy, output=output, environment=environment, cwd=folder) as process:
        ready = data / "server.json"
        deadline = time.monotonic() + _SECONDS_TO_START
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"`serve` did not become ready:\n{last_words(output)}")
            time.sleep(0.02)
        bound = json.loads(ready.read_text())["data"]
        address = bound if isinstance(bound, str) else bound[0]
        urls = {scheme: f"http://{address}/{service}/v1/events" for scheme, service in _SERVICES.items()}
        yield Subject("us", urls, dict.fromkeys(SCHEMES, process.pid), output)
