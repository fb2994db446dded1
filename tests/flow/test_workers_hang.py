"""The supervisor inside this process: a worker that hangs, one that is late for a stop."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from support.serving import declared_key

from proxy import log, supervisor
from proxy.assembly.inforce import catalog_of
from proxy.settings import load_settings
from proxy.sharedlog import make_lock


async def served(folder: Path, work: Callable[[supervisor.Supervisor], Awaitable[None]]) -> None:
    """A supervisor for one worker, opened and not started; everything is closed at the end."""
    _, hashed = declared_key()
    path = folder / "proxy.toml"
    path.write_text(
        '[services]\nenabled = ["slack"]\n[sources.slack]\nkind = "static"\ntoken = { env = "HOME" }\n'
        f'[keys.one]\nhash = "{hashed}"\nallow = ["slack"]\n'
        '[data]\nlisten = ["127.0.0.1:0"]\ndrain_s = 2\n[control]\nlisten = ["127.0.0.1:0"]\n'
    )
    settings = load_settings(path, {"HOME": str(folder)})
    log.configure("json", "error")
    lock = make_lock()
    try:
        async with supervisor.opened(settings, catalog_of(settings), workers=1, log_lock=lock) as running:
            await work(running)
    finally:
        os.close(lock)
    assert not [one for one in psutil.Process().children() if "__worker__" in " ".join(one.cmdline())]


async def test_a_worker_that_hangs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that reports no more is killed and told of; the next one answers in its place."""
    monkeypatch.setattr(supervisor, "SILENT_S", 4)

    async def work(running: supervisor.Supervisor) -> None:
        await running.start()
        (first,) = running._workers.values()
        os.kill(first.pid, signal.SIGSTOP)
        while running._workers.get(1) in {first, None} or running._workers[1].state != "ready":
            running._changed.clear()
            await running._changed.wait()
        assert not psutil.pid_exists(first.pid)
        assert running.readiness().ready
        assert await running.drain(20)

    await served(tmp_path, work)
    assert '"event":"worker_hangs"' in capfd.readouterr().err


async def test_a_stop_reaches_workers_that_are_not_there_yet(tmp_path: Path) -> None:
    """SIGTERM in the first moment: the worker comes up to hear that it is over, and nothing is cut."""

    async def work(running: supervisor.Supervisor) -> None:
        running._keepers = [asyncio.create_task(running._keep(1))]
        while not running._workers:  # noqa: ASYNC110  # it fills at the first step of a task; no event tells
            await asyncio.sleep(0)
        assert await running.drain(30)
        assert running._workers == {}

    await served(tmp_path, work)
