"""The program itself, ``connector-proxy serve``, with callers on its data plane: killed whole, or a worker of it."""

import asyncio
import collections
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, Self

import aiohttp
import psutil
from field import Field
from kills import requests, verified
from support.proxy import Process, bound
from support.serving import declared_key

KEY, HASHED = declared_key()
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "keys.chaos": {"hash": HASHED, "allow": ["*"]},
    "data": {"drain_s": 1},
}
BACK_S = 60.0
GONE_S = 40.0  # a worker whose supervisor is gone may finish what it has begun


class Server(Process):
    """``serve`` on a field's vault."""

    name = "connector-proxy"
    start_limit = 90.0  # a busy machine is no loss

    def __init__(self, field: Field, workers: int) -> None:
        super().__init__(field.ground.folder)
        self._field = field
        self._workers = workers

    def start(self) -> Self:
        """Starts it and waits until it says where it listens."""
        ground = self._field.ground
        command = [
            sys.executable, "-m", "proxy", "serve", "--config", str(ground.config), "--data-dir", str(ground.data_dir),
            "--port", "0", "--control-port", "0", "--workers", str(self._workers),
        ]  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CONNECTOR_PROXY_")}
        told = self._start(
            command, {**environment, "PYTHONPATH": str(self.cwd)}, ground.data_dir / "server.json"
        )
        self.address = bound(told["data"])
        return self

    def workers(self) -> list[int]:
        """Pids of its children."""
        return [child.pid for child in psutil.Process(self.pid).children()]


async def _callers(server: Server, number: int) -> collections.Counter[str]:
    """So many requests at once through the data plane to the service: statuses, and what broke."""
    host, port = server.address
    url, headers = f"http://{host}:{port}/real/api/me", {"Authorization": f"Bearer {KEY}"}

    async def one(session: aiohttp.ClientSession) -> str:
        try:
            async with session.get(url, headers=headers) as answer:
                await answer.read()
                return str(answer.status)
        except (aiohttp.ClientError, OSError):
            return "broken"

    limit = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(
        timeout=limit, connector=aiohttp.TCPConnector(force_close=True)
    ) as session:
        return collections.Counter(await asyncio.gather(*(one(session) for _ in range(number))))


async def kill_server(field: Field, workers: int) -> None:
    """Calls for an expired token are under way when the server is killed; another one goes on."""
    begun = time.monotonic()
    await field.kill()
    await field.ground.expire("main")
    server = await asyncio.to_thread(Server(field, workers).start)
    try:
        children = server.workers()
        before = await requests(field)
        calls = asyncio.ensure_future(_callers(server, 16))
        await asyncio.sleep(field.chance.expovariate(1 / 0.06))
    finally:
        await asyncio.to_thread(server.kill)
    field.tally.calls += (await calls).total()
    await _gone(field, children)
    what = "serve killed" if workers == 1 else f"serve --workers {workers}, supervisor killed"
    await verified(field, what, before, begun)


async def _gone(field: Field, pids: list[int]) -> None:
    """Workers end by themselves when their supervisor is gone; they would refresh on."""
    _, alive = await asyncio.to_thread(
        psutil.wait_procs, [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], GONE_S
    )
    for one in alive:
        field.lose(f"worker {one.pid} outlives its supervisor")
        one.kill()


async def kill_workers(field: Field, rounds: int) -> None:
    """One server; again and again one of its two workers is killed while calls wait for a refresh."""
    await field.kill()
    server = await asyncio.to_thread(Server(field, 2).start)
    try:
        for _ in range(rounds):
            await _kill_worker(field, server)
    finally:
        await asyncio.to_thread(server.stop)


async def _kill_worker(field: Field, server: Server) -> None:
    begun = time.monotonic()
    await field.ground.expire("main")
    await asyncio.sleep(0.6)  # every worker has heard of it: they look four times a second
    before = await requests(field)
    calls = asyncio.ensure_future(_callers(server, 32))
    await asyncio.sleep(field.chance.expovariate(1 / 0.03))
    with contextlib.suppress(ProcessLookupError):
        os.kill(field.chance.choice(server.workers()), signal.SIGKILL)
    statuses = await calls
    field.tally.calls += statuses.total()
    bad = {
        status: number for status, number in statuses.items() if status not in {"200", "broken", "424", "503"}
    }
    if bad:
        field.lose(f"callers got {bad}")
    await _again(field, server)
    await verified(field, "worker killed", before, begun)


async def _again(field: Field, server: Server) -> None:
    """The server answers all calls again, with the two workers that it had."""
    deadline = time.monotonic() + BACK_S
    while True:
        statuses = await _callers(server, 8)
        row = await field.ground.connection()
        fine = set(statuses) <= ({"200"} if row["state"] == "active" else {"424"})
        if fine and len(server.workers()) == 2:
            return
        if time.monotonic() > deadline:
            field.lose(
                f"{BACK_S:.0f} s after a worker was killed: {dict(statuses)}, {len(server.workers())} workers"
            )
            return
        await asyncio.sleep(0.1)
