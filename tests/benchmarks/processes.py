"""Processes of a benchmark: started on a core, measured through /proc, stopped by their id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_STARTED = time.monotonic()


class BenchError(Exception):
    """Something outside the measured program is missing or failed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core does what: the measured proxy has one for itself; the load takes what is left."""

    proxy: int
    upstream: int
    load: int

    @classmethod
    def choose(cls) -> "Cores":
        """The first core for the proxy, the second for the upstream, a third for wrk if there is one."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise BenchError("two cores are needed: one for the proxy, one for the load")
        return cls(proxy=allowed[0], upstream=allowed[1], load=allowed[2] if len(allowed) > 2 else allowed[1])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes started inside inherit this core; the caller's own cores come back afterwards."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(pid: int) -> list[int]:
    """The process and all its descendants that still run."""
    found, index = [pid], 0
    while index < len(found):
        for children in Path(f"/proc/{found[index]}/task").glob("*/children"):
            with suppress(OSError):
                found.extend(int(child) for child in children.read_text().split())
        index += 1
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and its descendants (proc(5): fields 14 and 15 of stat)."""
    ticks = 0
    for member in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def memory_kib(pid: int, field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (highest so far), summed over the process and its descendants."""
    total = 0
    for member in tree(pid):
        with suppress(OSError):
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith(field + ":"):
                    total += int(line.split()[1])
    return total


def core_ticks(core: int) -> tuple[int, int]:
    """Busy and all ticks of a core since boot, whoever used it (proc(5): idle and iowait are not busy)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            ticks = [int(field) for field in line.split()[1:9]]
            return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    raise BenchError(f"/proc/stat has no core {core}")


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], output: Path, seconds: float = 20.0) -> None:
    """Return when the port accepts; fail with the program's last words when it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return
        time.sleep(0.02)
    raise BenchError(f"{process.args!r} does not listen on port {port}:\n{last_words(output)}")


def last_words(output: Path) -> str:
    """The end of what a program printed."""
    return output.read_bytes()[-3000:].decode(errors="replace") if output.exists() else ""


@contextmanager
def running(
    command: Sequence[str | os.PathLike[str]],
    *,
    core: int,
    output: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program on a core with stdout and stderr appended to a file; end it, and only it, afterwards."""
    stream: IO[bytes]
    with output.open("ab") as stream, on_core(core):
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=None if environment is None else dict(environment),
            cwd=cwd,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, ten seconds of patience, then SIGKILL to the process and what it left behind."""
    members = tree(process.pid) if process.poll() is None else []
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
        return
    for member in members:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    process.wait(10)


def say(text: str) -> None:
    """A line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {text}", flush=True)
