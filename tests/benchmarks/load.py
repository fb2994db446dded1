"""One measured window: wrk against an address while /proc is read before and after."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from processes import BenchError, Cores, core_ticks, cpu_seconds, on_core

# wrk's own text rounds; its script hook gives the exact figures of the same histogram.
REPORT_LUA = """\
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nresult {"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One window. ``errors`` counts socket errors, timeouts and answers other than 2xx and 3xx."""

    requests: int
    rps: float
    rps_per_cpu_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    proxy_use: float  # CPU-seconds of the proxy's processes a second
    load_use: float  # busiest load core, 0 to 1, whoever used it
    others_use: float  # what anybody else took of the proxy's core


@dataclass(frozen=True, slots=True)
class Wrk:
    """wrk on its core, with the headers that every request carries."""

    program: str
    script: Path
    cores: Cores
    headers: dict[str, str]

    def run(self, url: str, *, connections: int, seconds: float, pid: int | None) -> Sample:
        """Measure one window; ``pid`` is the proxy's process (None: no proxy, no CPU figures)."""
        command = [self.program, "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(self.script)]
        for name, value in self.headers.items():
            command += ["-H", f"{name}: {value}"]
        watched = sorted({self.cores.proxy, self.cores.upstream, self.cores.load})
        cores_before = [core_ticks(core) for core in watched]
        cpu_before = cpu_seconds(pid) if pid else 0.0
        with on_core(self.cores.load):
            done = subprocess.run(
                [*command, url], capture_output=True, text=True, timeout=seconds + 30, check=False
            )
        cpu = cpu_seconds(pid) - cpu_before if pid else 0.0
        use = {
            core: _use(before, core_ticks(core)) for core, before in zip(watched, cores_before, strict=True)
        }
        result = next((line for line in done.stdout.splitlines() if line.startswith("result ")), None)
        if result is None:
            raise BenchError(f"wrk failed on {url}:\n{done.stdout}{done.stderr}")
        figures = json.loads(result.removeprefix("result "))
        elapsed = figures["duration_us"] / 1e6
        return Sample(
            requests=figures["requests"],
            rps=figures["requests"] / elapsed,
            rps_per_cpu_s=figures["requests"] / cpu if cpu else 0.0,
            p50_ms=figures["p50_us"] / 1000,
            p99_ms=figures["p99_us"] / 1000,
            errors=sum(figures[kind] for kind in ("connect", "read", "write", "status", "timeout")),
            proxy_use=cpu / elapsed,
            load_use=max(use[self.cores.upstream], use[self.cores.load]),
            others_use=max(0.0, use[self.cores.proxy] - cpu / elapsed),
        )


def _use(before: tuple[int, int], after: tuple[int, int]) -> float:
    return (after[0] - before[0]) / max(1, after[1] - before[1])
