"""Two processes with eight tasks each on one vault: what must hold whatever they do, in whatever order (R148)."""

import asyncio
import collections
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from support.stores import VaultPlace, place_of

from proxy.connectors.model import Tokens
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError
from proxy.keys import KeyRecord, digest, generate
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
TASKS, STEPS = 8, 8
NAMES = ("a", "b", "c")


class Worker:
    """One process: tasks that do random things to one vault, and tell what the vault acknowledged."""

    def __init__(self, vault: Vault, seed: int) -> None:
        self._vault = vault
        self._random = random.Random(seed)
        self._seed = seed
        self.told: list[dict[str, Any]] = []

    async def task(self, number: int) -> None:
        for step in range(STEPS):
            work = self._random.choice(("save", "save", "save", "remove", "default", "freeze", "thaw", "key"))
            name = self._random.choice(NAMES)
            try:
                detail = await getattr(self, work)(name, f"{self._seed}-{number}-{step}")
            except ConfigurationError:
                continue  # not there (any more), or not in that state: nothing was changed
            self.told.append({"work": work, "name": name, **detail})

    async def save(self, name: str, unique: str) -> Mapping[str, Any]:
        saved = await self._vault.save_connection(
            "slack", name, Tokens(Secret(unique), Secret(f"{unique}-r"))
        )
        return {"generation": saved.generation, "token": unique, "id": saved.connection_id}

    async def remove(self, name: str, _: str) -> Mapping[str, Any]:
        await self._vault.remove("slack", name)
        return {}

    async def default(self, name: str, _: str) -> Mapping[str, Any]:
        await self._vault.set_default("slack", name)
        return {}

    async def freeze(self, name: str, _: str) -> Mapping[str, Any]:
        await self._vault.freeze("slack", name)
        return {}

    async def thaw(self, name: str, _: str) -> Mapping[str, Any]:
        await self._vault.freeze("slack", name, frozen=False)
        return {}

    async def key(self, _: str, unique: str) -> Mapping[str, Any]:
        key_id, key = generate()
        await self._vault.add_key(KeyRecord(key_id, unique, digest(key.reveal().encode()), ("slack",)))
        return {"key": key_id}


def seen_by(vault: Vault) -> list[Any]:
    """All of the vault that callers could tell."""
    return [
        [
            (held.connection.name, held.connection.generation, held.connection.state, held.connection.is_default,
             held.tokens.access_token.reveal() if held.tokens else None)
            for held in vault.snapshot.by_service.get("slack", {}).values()
        ],
        sorted(vault.keys()),
        vault.snapshot.sequence,
    ]  # fmt: skip


async def work(seed: int) -> None:
    """A process: begins when told to on its input, ends when told that all have ended."""
    loop = asyncio.get_running_loop()
    async with place_of(os.environ).opened() as vault:
        worker = Worker(vault, seed)
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        await asyncio.gather(*(worker.task(number) for number in range(TASKS)))
        print(json.dumps(worker.told), flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        await vault.catch_up()
        print(json.dumps(seen_by(vault)), flush=True)


async def _started(place: VaultPlace, seed: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "store.test_two_processes", str(seed), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path), **place.environment}, limit=1 << 22,
    )  # fmt: skip


async def _say(processes: list[asyncio.subprocess.Process]) -> list[Any]:
    """Tell all to go on; what each says then."""
    lines = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
    for process in processes:
        assert process.stdout is not None
        lines.append(json.loads(await process.stdout.readline()))
    return lines


async def test_two_processes_of_eight_tasks_each(place: VaultPlace) -> None:
    """Nothing is lost or done twice, numbers have no gap, one default, all end up alike, the audit is a chain (R148)."""
    seed = random.randrange(1000)  # of the test run's own seed
    async with place.store() as store:
        before = await store.sequence()
    processes = [await _started(place, seed * 10 + at) for at in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    told = [one for lines in await _say(processes) for one in lines]
    seen = await _say(processes)
    assert [await process.wait() for process in processes] == [0, 0]
    async with place.opened() as vault:
        assert seen == [json.loads(json.dumps(seen_by(vault)))] * 2
        assert vault.snapshot.sequence == before + len(told)
        rows = [row for row in await vault.audit(limit=10_000) if row.actor == "operator"]
        _check_connections(vault, told)
        chain = await vault.verify_audit()
    assert (chain.faults, chain.loose, chain.rows) == ((), 0, chain.number)
    assert collections.Counter(row.action.partition(".")[0] for row in rows) == collections.Counter(
        "key" if one["work"] == "key" else "connection" for one in told
    )
    assert set(vault.keys()) == {one["key"] for one in told if one["work"] == "key"}


def _check_connections(vault: Vault, told: list[dict[str, Any]]) -> None:
    held = dict(vault.snapshot.by_service.get("slack", {}))
    assert sum(one.connection.is_default for one in held.values()) <= 1
    for name in NAMES:
        saves = [one for one in told if one["work"] == "save" and one["name"] == name]
        removals = sum(one["work"] == "remove" and one["name"] == name for one in told)
        by_id = collections.defaultdict(list)
        for one in saves:
            by_id[one["id"]].append(one["generation"])
        for generations in by_id.values():  # each renewal saw the one before it
            assert sorted(generations) == list(range(1, len(generations) + 1))
        assert len(by_id) - removals == (name in held)
        if name in held:
            last = next(
                one for one in saves
                if (one["id"], one["generation"])
                == (held[name].connection.connection_id, held[name].connection.generation)
            )  # fmt: skip
            tokens = held[name].tokens
            assert tokens is not None
            assert tokens.access_token.reveal() == last["token"]


if __name__ == "__main__":
    asyncio.run(work(int(sys.argv[1])))
