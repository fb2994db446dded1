"""How fast we are beside nginx, Caddy and the aiohttp proxy that anyone would write: `python tests/benchmarks/run.py`.

One core for the proxy, another for the load (wrk, and an nginx as upstream). In turn A B C D, A B C D, so that
drift of the machine hits all alike. The unit is requests per CPU-second of the proxy's processes; req/s stands beside it.
Columns: "proxy" is the share of its core that the proxy used, "others" what strangers took of that core (a quiet
machine has next to nothing there), "load" the use of the load core; above 90 % of it a ratio is void.
Prints a table with the goals and writes build/bench.json. Exit 1 when a request of ours failed, 3 when a tool is missing.
"""

import argparse
import json
import os
import platform
import pstats
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import inflight
import peers
import report
from load import REPORT_LUA, Sample, Wrk
from ours import Key, us
from peers import ROOT, SCHEMES, Programs, Subject, Upstream
from processes import BenchError, Cores, on_core, say

SUBJECTS = ("nginx", "caddy", "aiohttp", "us")
CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    latency_runs: int
    in_flight: int

    @classmethod
    def full(cls) -> "Plan":
        return cls(rounds=7, seconds=3, latency_runs=5, in_flight=inflight.most_at_once())

    @classmethod
    def quick(cls) -> "Plan":
        return cls(rounds=3, seconds=1, latency_runs=3, in_flight=min(1_000, inflight.most_at_once()))


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements of a run share."""

    plan: Plan
    cores: Cores
    programs: Programs
    folder: Path
    wrk: Wrk
    key: Key
    subjects: tuple[str, ...]

    def start(self, name: str, up: Upstream) -> AbstractContextManager[Subject]:
        """A proxy by its name, in a folder of its own, in front of this upstream."""
        here = self.folder / name
        here.mkdir()
        starters: dict[str, Callable[[], AbstractContextManager[Subject]]] = {
            "nginx": lambda: peers.nginx(self.programs, up, here, self.cores),
            "caddy": lambda: peers.caddy(self.programs, up, here, self.cores),
            "aiohttp": lambda: peers.aiohttp(self.programs, up, here, self.cores),
            "us": lambda: us(up, here, self.cores, self.key),
        }
        return starters[name]()


def throughput(bench: Bench, up: Upstream) -> dict[str, dict[str, list[Sample]]]:
    """All subjects in turn, round after round, on both upstreams."""
    samples: dict[str, dict[str, list[Sample]]] = {s: {name: [] for name in bench.subjects} for s in SCHEMES}
    with ExitStack() as stack:
        running = [stack.enter_context(bench.start(name, up)) for name in bench.subjects]
        for scheme in SCHEMES:
            for subject in running:
                _measure(bench, subject, scheme, seconds=1)
        for number in range(bench.plan.rounds):
            for scheme in SCHEMES:
                say(f"round {number + 1} of {bench.plan.rounds}, {scheme}")
                for subject in running:
                    samples[scheme][subject.name].append(_measure(bench, subject, scheme, bench.plan.seconds))
    return samples


def _measure(bench: Bench, subject: Subject, scheme: str, seconds: float) -> Sample:
    sample = bench.wrk.run(
        subject.urls[scheme], connections=CONNECTIONS, seconds=seconds, pid=subject.pids[scheme]
    )
    subject.truncate_log()
    if sample.errors > sample.requests // 2:
        raise BenchError(f"{subject.name}, {scheme}: {sample.errors} errors in {sample.requests} requests")
    return sample


def alone(bench: Bench, up: Upstream) -> dict[str, Any]:
    """Idle memory, and what one connection's requests take longer through us than directly."""
    here = bench.folder / "alone"
    here.mkdir()
    with us(up, here, bench.cores, bench.key) as subject:
        result: dict[str, Any] = {"idle_rss_mib": inflight.idle_rss_mib(subject, bench.key.presented)}
        direct_wrk = Wrk(
            bench.wrk.program, bench.wrk.script, bench.cores, {"Authorization": f"Bearer {peers.TOKEN}"}
        )
        urls = (f"http://127.0.0.1:{up.ports['plain']}/v1/events", subject.urls["plain"])
        added: dict[str, list[float]] = {"p50": [], "p99": []}
        for number in range(bench.plan.latency_runs):
            say(f"added latency, run {number + 1} of {bench.plan.latency_runs}")
            direct, ours = (
                wrk.run(url, connections=1, seconds=bench.plan.seconds, pid=None)
                for wrk, url in zip((direct_wrk, bench.wrk), urls, strict=True)
            )
            added["p50"].append(ours.p50_ms - direct.p50_ms)
            added["p99"].append(ours.p99_ms - direct.p99_ms)
    return result | {
        f"added_{name}_ms": round(statistics.median(values), 3) for name, values in added.items()
    }


def profile(bench: Bench, up: Upstream, path: Path) -> None:
    """Our own time by function under load, as cProfile sees it (its own cost inflates small functions)."""
    here = bench.folder / "profiled"
    here.mkdir()
    with us(up, here, bench.cores, bench.key, profile=path) as subject:
        for scheme in SCHEMES:
            say(f"profiling, {scheme}")
            _measure(bench, subject, scheme, bench.plan.seconds)
    if not path.exists():
        raise BenchError("`serve` left no profile: it did not end in order")
    pstats.Stats(str(path)).sort_stats("tottime").print_stats(30)


def vault_costs(bench: Bench) -> dict[str, Any]:
    """What tokens from the vault cost, see ``vault.py``; on the proxy's core."""
    say("tokens from the vault")
    script = Path(__file__).with_name("vault.py")
    sizes = ("--connections", "1000", "--ending", "200") if bench.plan == Plan.quick() else ()
    command = [sys.executable, str(script), str(bench.folder / "vault"), *sizes]
    search = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    with on_core(bench.cores.proxy):
        done = subprocess.run(command, capture_output=True, text=True, env=search, check=False)
    if done.returncode:
        raise BenchError(f"vault.py failed: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def prepared(arguments: argparse.Namespace):
    """Folder, programs, key and load generator; everything is gone afterwards."""
    subjects = tuple(name for name in SUBJECTS if name in arguments.only)
    cores, key = Cores.choose(), Key.generate()
    programs = Programs.find(subjects)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        script = folder / "report.lua"
        script.write_text(REPORT_LUA)
        wrk = Wrk(programs.wrk, script, cores, {"Authorization": f"Bearer {key.presented}"})
        plan = Plan.quick() if arguments.quick else Plan.full()
        yield Bench(plan, cores, programs, folder, wrk, key, subjects)


def run(arguments: argparse.Namespace) -> int:
    """Everything, in order; returns the exit status."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    result: dict[str, Any] = {}
    with (
        prepared(arguments) as bench,
        peers.upstream(bench.programs, bench.folder / "upstream", bench.cores) as up,
    ):
        if arguments.profile:
            profile(bench, up, build / "bench.pstats")
            return 0
        say(
            f"proxy on core {bench.cores.proxy}, upstream on {bench.cores.upstream}, wrk on {bench.cores.load}"
        )
        samples = throughput(bench, up)
        result |= report.figures(samples)
        if "us" in bench.subjects:
            result |= alone(bench, up)
            start = partial(us, cores=bench.cores, key=bench.key, in_flight=bench.plan.in_flight)
            result["in_flight"] = inflight.in_flight(
                start,
                bench.folder / "in-flight",
                bench.plan.in_flight,
                bench.key.presented,
                bench.cores,
            )
            result["vault"] = vault_costs(bench)
    print(
        f"\n{platform.platform()}, Python {platform.python_version()}, {bench.plan.rounds} x {bench.plan.seconds:g} s"
    )
    print(report.throughput_table(samples))
    if "us" in bench.subjects:
        print(report.own_table(result))
    (build / "bench.json").write_text(json.dumps(result, indent=2) + "\n")
    say("written: build/bench.json")
    return 1 if report.failures(samples, result) else 0


def _subjects(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(SUBJECTS):
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}"
        )
    return names


def main() -> int:
    """Parse, run, and turn what is missing outside into one readable line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s, 1,000 in flight")
    parser.add_argument("--only", type=_subjects, default=SUBJECTS, help="for example us,nginx")
    parser.add_argument(
        "--profile", action="store_true", help="only us, under cProfile; writes build/bench.pstats"
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is stopped
    try:
        return run(parser.parse_args())
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
