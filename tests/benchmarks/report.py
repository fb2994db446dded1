"""Medians, ratios and goals from the samples; the table for people and the JSON for programs."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from load import Sample

LOAD_CORE_LIMIT = 0.9  # above it the load generator, not the proxy, may set the pace
GOALS = {
    "plain": {"nginx": 0.40, "caddy": 2.0, "aiohttp": 4.0},
    "tls": {"nginx": 0.28, "caddy": 1.5, "aiohttp": 2.5},
}
ADDED_GOAL_MS = {"p50": 0.25, "p99": 1.5}
VAULT_GOALS = {"warm_per_s": 200_000, "cold_ms": 1.0, "open_ms": 1000.0}
IN_FLIGHT_GOAL_KIB = {"plain": 40, "tls": 80}

Samples = Mapping[str, Mapping[str, Sequence[Sample]]]  # scheme -> subject -> one sample a round


def _median(samples: Sequence[Sample], field: str) -> float:
    return statistics.median(getattr(sample, field) for sample in samples)


def figures(samples: Samples) -> dict[str, dict[str, dict[str, float]]]:
    """Medians over the rounds: ``{scheme: {subject: {"rps", "rps_per_cpu_s", "p50_ms", "p99_ms"}}}``."""
    digits = {"rps": 0, "rps_per_cpu_s": 0, "p50_ms": 3, "p99_ms": 3}
    return {
        scheme: {
            subject: {field: round(_median(rounds, field), places) for field, places in digits.items()}
            for subject, rounds in subjects.items()
        }
        for scheme, subjects in samples.items()
    }


@dataclass(frozen=True, slots=True)
class Ratio:
    """Our requests per CPU-second over a peer's: median and range of the rounds; ``void`` says why it counts not."""

    peer: str
    goal: float
    median: float
    lowest: float
    highest: float
    void: str

    @property
    def verdict(self) -> str:
        if self.void:
            return f"void: {self.void}"
        return "reached" if self.median >= self.goal else "MISSED"


def ratios(subjects: Mapping[str, Sequence[Sample]], scheme: str) -> list[Ratio]:
    """Us against each measured peer: the medians' ratio, and the range of the rounds' own."""
    found = []
    ours = subjects.get("us", ())
    for peer, goal in GOALS[scheme].items():
        theirs = subjects.get(peer, ())
        if not ours or not theirs:
            continue
        pairs = [us.rps_per_cpu_s / them.rps_per_cpu_s for us, them in zip(ours, theirs, strict=True)]
        medians = [_median(subjects[name], "rps_per_cpu_s") for name in ("us", peer)]
        use = {name: _median(subjects[name], "load_use") for name in ("us", peer)}
        busy = [
            f"load core {share:.0%} busy with {name}"
            for name, share in use.items()
            if share > LOAD_CORE_LIMIT
        ]
        failed = [
            f"{name} had errors" for name in ("us", peer) if any(sample.errors for sample in subjects[name])
        ]
        found.append(
            Ratio(peer, goal, medians[0] / medians[1], min(pairs), max(pairs), "; ".join(busy + failed))
        )
    return found


def throughput_table(samples: Samples) -> str:
    """Per scheme a line for each subject, then a line for each ratio."""
    lines = []
    for scheme, subjects in samples.items():
        lines.append(
            f"\n{scheme} upstream, 64 connections, one core (medians; range of the rounds in brackets)"
        )
        lines.append(
            f"  {'':8} {'req/CPU-s':>9} {'':17} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'proxy':>6} {'others':>6} {'load':>5} errors"
        )
        for name, rounds in subjects.items():
            per_cpu = [sample.rps_per_cpu_s for sample in rounds]
            spread = f"[{min(per_cpu):.0f}-{max(per_cpu):.0f}]"
            lines.append(
                f"  {name:8} {_median(rounds, 'rps_per_cpu_s'):9.0f} {spread:17} {_median(rounds, 'rps'):8.0f}"
                f" {_median(rounds, 'p50_ms'):8.2f} {_median(rounds, 'p99_ms'):8.2f}"
                f" {_median(rounds, 'proxy_use'):6.0%} {_median(rounds, 'others_use'):6.0%}"
                f" {_median(rounds, 'load_use'):5.0%}"
                f" {sum(sample.errors for sample in rounds)} of {sum(sample.requests for sample in rounds)}"
            )
        lines += [
            f"  us / {ratio.peer:8} {ratio.median:5.2f} [{ratio.lowest:.2f}-{ratio.highest:.2f}]"
            f"   goal {ratio.goal:.2f}   {ratio.verdict}"
            for ratio in ratios(subjects, scheme)
        ]
    return "\n".join(lines)


def _against(value: float, goal: float) -> str:
    return f"goal <= {goal:g}   {'reached' if value <= goal else 'MISSED'}"


def _vault_lines(vault: Mapping[str, Any]) -> list[str]:
    """Tokens from the vault: from memory, after a change, at a start, and many that end together."""
    (_, bare), (count, full) = vault["open_ms"].items()
    ending = vault["ending"]
    verdict = "reached" if vault["warm_per_s"] >= VAULT_GOALS["warm_per_s"] else "MISSED"
    return [
        f"  get_connection, in memory   {vault['warm_per_s']:8.0f} a second   goal >= {VAULT_GOALS['warm_per_s']}   {verdict}",
        f"  after another's change      {vault['cold_ms']:8.3f} ms   {_against(vault['cold_ms'], VAULT_GOALS['cold_ms'])}",
        f"  a start with {count} more    {full - bare:8.0f} ms   {_against(full - bare, VAULT_GOALS['open_ms'])}   {vault['kib_each']} KiB each",
        f"  {ending['connections']} ending together      {ending['requests_per_s']:8.0f} refreshes/s   {ending['requests']} requests, {ending['failed']} failed, {ending['waited']} calls waited",
    ]


def own_table(result: Mapping[str, Any]) -> str:
    """The figures that are only about us."""
    lines = ["\nconnector-proxy alone"]
    for percentile, goal in ADDED_GOAL_MS.items():
        if (added := result.get(f"added_{percentile}_ms")) is not None:
            lines.append(f"  added {percentile}, 1 connection    {added:8.3f} ms   {_against(added, goal)}")
    held = result.get("in_flight", {})
    for scheme, goal in IN_FLIGHT_GOAL_KIB.items():
        if scheme in held:
            one = held[scheme]
            lines.append(
                f"  {held['requests']} at once, {scheme:5}      {one['kib_each']:8.1f} KiB each   "
                f"{_against(one['kib_each'], goal)}   ok {one['ok']}, errors {one['errors'] or 'none'}"
            )
    if "vault" in result:
        lines += _vault_lines(result["vault"])
    if "idle_rss_mib" in result:
        lines.append(f"  idle                        {result['idle_rss_mib']:8.1f} MiB RSS")
    return "\n".join(lines)


def failures(samples: Samples, result: Mapping[str, Any]) -> int:
    """Requests of ours that went wrong, over all measurements."""
    held = result.get("in_flight", {})
    return sum(sample.errors for subjects in samples.values() for sample in subjects.get("us", ())) + sum(
        sum(held[scheme]["errors"].values()) for scheme in IN_FLIGHT_GOAL_KIB if scheme in held
    )
