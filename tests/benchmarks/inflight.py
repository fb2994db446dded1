"""How many requests we hold at once, and what each costs in memory."""

import json
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from peers import SCHEMES, Subject, Upstream, make_certificate
from processes import BenchError, Cores, free_port, memory_kib, on_core, running, say, wait_for_port

_WARM_UP_REQUESTS = 20
_ROLES = Path(__file__).with_name("held.py")


def most_at_once() -> int:
    """What the hard descriptor limit allows: two descriptors a request, 1,000 kept back, at most 10,000."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return min(10_000, 10_000 if hard == resource.RLIM_INFINITY else (hard - 1_000) // 2)


def _call(url: str, key: str) -> None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})  # noqa: S310  # http, loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # likewise
        answer.read()


def idle_rss_mib(subject: Subject, key: str) -> float:
    """Resident memory of a proxy that has answered a few requests and has nothing to do."""
    for scheme in SCHEMES:
        for _ in range(_WARM_UP_REQUESTS):
            _call(subject.urls[scheme], key)
    time.sleep(1)
    return round(memory_kib(subject.pids["plain"], "VmRSS") / 1024, 1)


def _one(subject: Subject, scheme: str, count: int, key: str, cores: Cores) -> dict[str, Any]:
    """N requests at once through a fresh proxy: outcomes, and the growth of its highest RSS for each."""
    address = urlsplit(subject.urls[scheme])
    for _ in range(_WARM_UP_REQUESTS):
        _call(subject.urls[scheme], key)
    before = memory_kib(subject.pids[scheme], "VmRSS")
    target = address.path.rpartition("/")[0] + "/held"
    command = [
        sys.executable,
        _ROLES,
        "callers",
        str(count),
        address.hostname or "",
        str(address.port),
        target,
        key,
    ]
    with on_core(cores.load):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise BenchError(f"the callers failed:\n{done.stderr}")
    result = json.loads(done.stdout)
    peak = memory_kib(subject.pids[scheme], "VmHWM")
    return {"kib_each": round((peak - before) / count, 1), **result}


def in_flight(
    start: Callable[[Upstream, Path], AbstractContextManager[Subject]],
    folder: Path,
    count: int,
    key: str,
    cores: Cores,
) -> dict[str, Any]:
    """For plain and TLS upstreams: ``{"requests", "plain": {"kib_each", "ok", "errors", "seconds"}, "tls": ...}``."""
    folder.mkdir()
    ca_file, server_file = make_certificate(folder)
    result: dict[str, Any] = {"requests": count}
    for scheme in SCHEMES:
        ports = {name: free_port() for name in SCHEMES}
        here = folder / scheme
        here.mkdir()
        command = [
            sys.executable,
            _ROLES,
            "upstream",
            str(count),
            str(ports["plain"]),
            str(ports["tls"]),
            server_file,
        ]
        output = here / "upstream-output"
        with running(command, core=cores.upstream, output=output) as process:
            wait_for_port(ports["tls"], process, output)
            with start(Upstream(ports, ca_file), here) as subject:
                say(f"in flight: {count} at once, {scheme} upstream")
                result[scheme] = _one(subject, scheme, count, key, cores)
    return result
