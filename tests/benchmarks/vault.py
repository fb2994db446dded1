"""What the connectors module costs: tokens from memory, after a change, at a start, and when many end together.

    PYTHONPATH=tests python tests/benchmarks/vault.py FOLDER [--connections 10000] [--ending 2000]

In this process, on SQLite, with a token endpoint on loopback in the same process. Prints one JSON object:
``{"warm_per_s", "cold_ms", "open_ms": {"0", N}, "kib_each", "ending": {"connections", "requests",
"requests_per_s", "cpu_ms_each", "at_once", "waited", "failed", "worst_call_ms"}}``. CPU is that of this process:
refreshes, callers and the token endpoint.
"""

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

from processes import memory_kib
from support.providers.scripted import Scripted
from support.refreshing import Process, Scene, catalog_of
from support.stores import SqlitePlace
from support.vaults import Clock

from proxy.connectors.model import Tokens
from proxy.connectors.module import Connectors
from proxy.connectors.rows import CONNECTION_COLUMNS, optional_ms, seal_tokens, to_ms
from proxy.connectors.vault import Vault
from proxy.secret import Secret

_LIFE_S = 3600.0
_WARM_S = 1.0
_COLD_ROUNDS = 200
_TURNS = 100  # a second
_LATEST = 256  # connections of which some may be open: looking at all of them would take its time


def _row(number: int, now: float) -> dict[str, Any]:
    return {
        **dict.fromkeys(CONNECTION_COLUMNS),
        "connection_id": f"con_{number:016x}",
        "service": "scripted",
        "name": f"c{number}",
        "is_default": int(number == 0),
        "state": "active",
        "scopes": '["read"]',
        "asked_scopes": '["read"]',
        "metadata": "{}",
        "registration": "scripted",
        "generation": 1,
        "created_at": to_ms(now) + number,
        "updated_at": to_ms(now),
    }


async def fill(vault: Vault, count: int, now: float) -> None:
    """Connections as flows would store them, in one commit."""
    insert = (
        f"INSERT INTO connections ({', '.join(CONNECTION_COLUMNS)}) "  # noqa: S608  # our own names
        f"VALUES ({', '.join(f'${at}' for at in range(1, len(CONNECTION_COLUMNS) + 1))})"
    )
    await vault.data_keys.reserve(2 * count)
    async with vault.change("benchmark", "connection.save", "*") as change:
        ring = await vault.data_keys.current(change.transaction)
        for number in range(count):
            tokens = Tokens(
                Secret(f"access-token-{number:08}"), Secret(f"spend-{number}"), now + _LIFE_S, now
            )
            row = _row(number, now) | {"sequence": change.sequence, "issued_at": to_ms(now)}
            row["expires_at"] = optional_ms(tokens.expires_at)
            row["grant_mark"] = vault.mark(tokens.refresh_token or tokens.access_token)
            row.update(seal_tokens(row, tokens, ring))
            await change.transaction.execute(insert, *(row[name] for name in CONNECTION_COLUMNS))


async def warm(process: Process, scene: Scene) -> float:
    """``get_connection`` a second, the token being in memory."""
    connectors = Connectors(scene.catalog, {}, process.source)
    count, end = 0, time.perf_counter() + _WARM_S
    while time.perf_counter() < end:
        for _ in range(1000):
            await connectors.get_connection("scripted", connection="c1")
        count += 1000
    return count / _WARM_S


async def cold(process: Process, other: Process) -> float:
    """Median milliseconds of an ``obtain`` right after another process has replaced the tokens."""
    took = []
    for number in range(_COLD_ROUNDS):
        tokens = Tokens(Secret(f"replaced-{number}"), Secret(f"next-{number}"))
        await other.vault.save_connection("scripted", "c1", tokens, registration="scripted")
        begun = time.perf_counter()
        got = await process.source.obtain("scripted", "c1")
        took.append(1000 * (time.perf_counter() - begun))
        if got.access_token != tokens.access_token:
            raise RuntimeError("an old token was given")
    return statistics.median(took)


async def ending(process: Process, scene: Scene, count: int) -> dict[str, Any]:
    """All of ``count`` connections come near their end together, and callers go on asking for each.

    A caller asks for each connection about once a second: what the callers cost is none of the refreshes' cost.
    """
    scene.clock.now += _LIFE_S - 60.0  # inside every margin, a minute before the end
    names = [f"c{number}" for number in range(count)]
    a_turn = max(1, count // _TURNS)
    begun, cpu, worst, waited, at_once, at = time.perf_counter(), time.process_time(), 0.0, 0, 0, 0
    while len(scene.provider.requests) < count:
        for name in names[at : at + a_turn]:
            asked = time.perf_counter()
            waited += process.source.ready("scripted", name) is None
            worst = max(worst, time.perf_counter() - asked)
        at = (at + a_turn) % count
        at_once = max(at_once, scene.provider.at_once)
        await asyncio.sleep(1 / _TURNS)
    await process.settled()
    took = time.perf_counter() - begun
    return {
        "connections": count,
        "requests": len(scene.provider.requests),
        "requests_per_s": round(count / took),
        "cpu_ms_each": round(1000 * (time.process_time() - cpu) / count, 2),
        "at_once": at_once,
        "waited": waited,
        "failed": sum(outcome != "refreshed" for outcome in process.outcomes),
        "worst_call_ms": round(1000 * worst, 3),
    }


class Counting(Scripted):
    """The provider, that tells how many requests it holds."""

    @property
    def at_once(self) -> int:
        return sum(not peer.ended.is_set() for peer in self._upstream.peers[-_LATEST:])


async def opened_in(place: SqlitePlace, scene: Scene) -> tuple[float, int]:
    """Milliseconds to open the vault, and what this process grew by, KiB."""
    before, begun = memory_kib(_PID, "VmRSS"), time.perf_counter()
    async with place.opened(clock=scene.clock, catalog=scene.catalog):
        return 1000 * (time.perf_counter() - begun), memory_kib(_PID, "VmRSS") - before


async def measure(folder: Path, connections: int, count: int) -> dict[str, Any]:
    provider = Counting()
    async with provider.running():
        catalog = catalog_of(provider)
        empty = SqlitePlace(folder / "empty")
        full = SqlitePlace(folder / "full")
        few = SqlitePlace(folder / "few")
        clock = Clock(time.time())
        scene = Scene(full, provider, catalog, clock, Clock(0.0))
        await opened_in(empty, scene)
        bare, _ = await opened_in(empty, scene)
        async with full.opened(clock=clock, catalog=catalog) as vault:
            await fill(vault, connections, clock())
        loaded, grown = await opened_in(full, scene)
        result: dict[str, Any] = {
            "open_ms": {"0": round(bare, 1), str(connections): round(loaded, 1)},
            "kib_each": round(grown / connections, 2),
        }
        async with scene.process() as process, scene.process() as other:
            result["warm_per_s"] = round(await warm(process, scene))
            result["cold_ms"] = round(await cold(process, other), 3)
        scene = Scene(few, provider, catalog, clock, Clock(0.0))
        async with scene.process() as process:
            await fill(process.vault, count, clock())
            result["ending"] = await ending(process, scene, count)
    return result


_PID = int(Path("/proc/self").readlink().name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--ending", type=int, default=2_000)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(measure(given.folder, given.connections, given.ending))))


if __name__ == "__main__":
    main()
