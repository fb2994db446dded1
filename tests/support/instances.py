"""Processes on one vault, to be asked, counted and killed by a test: see ``instance_server``."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.commands import ROOT

_START_S = 60.0


class DiedError(Exception):
    """The process ended before it answered."""


class Instance:
    """One process. ``ask`` raises :class:`DiedError` once it is gone."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self._writer = writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._is_gone = False
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                answer = json.loads(line)
                self._waiting.pop(answer.pop("id")).set_result(answer)
        self._is_gone = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(DiedError(self.pid))
                future.exception()  # seen: nobody has to await what was begun before a kill
        self._waiting.clear()
        self._writer.close()

    def begin(self, op: str, **fields: Any) -> asyncio.Future[dict[str, Any]]:
        """Send an order; its answer comes in the future."""
        if self._is_gone:
            raise DiedError(self.pid)
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.write(json.dumps({"id": number, "op": op, **fields}).encode() + b"\n")
        return future

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """An order and its answer."""
        return await self.begin(op, **fields)

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self._handle < 0:
            return  # its pid may be another's by now
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await self._ended()

    async def close(self) -> None:
        """Let it end in order."""
        if self._handle < 0:
            return
        self._writer.write_eof()
        await self._ended()

    async def _ended(self) -> None:
        """Until the kernel has let go of it: a pidfd becomes readable then."""
        await self._reading
        if self._handle < 0:
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._handle, ended.set)
        try:
            async with asyncio.timeout(_START_S):
                await ended.wait()
        finally:
            loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1


class Instances:
    """The program that they are forked from; what they print on standard error is in ``log``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "instances.txt"
        self._arrived: asyncio.Queue[Instance] = asyncio.Queue()
        self._program: asyncio.subprocess.Process | None = None
        self._socket = ""
        self._alive: list[Instance] = []

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Instances"]:
        """Ready to fork inside the block; what is left then is killed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as short, self._log.open("wb") as log:  # socket paths have a limit
            self._socket = f"{short}/s"
            server = await asyncio.start_unix_server(self._hello, self._socket, limit=2**24)
            kept = {
                name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_PROXY_")
            }
            self._program = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "support.instance_server",
                self._socket,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
                cwd=self._folder,
            )
            try:
                yield self
            finally:
                for one in self._alive:
                    await one.kill()
                assert self._program.stdin is not None
                self._program.stdin.close()
                await self._program.wait()
                server.close()

    async def _hello(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = json.loads(await reader.readline())
        self._arrived.put_nowait(Instance(told["pid"], reader, writer))

    async def start(self, config: Path, data_dir: Path) -> Instance:
        """One more process on these settings and this data folder, its vault open."""
        assert self._program is not None
        assert self._program.stdin is not None
        spec = {"config": str(config), "data_dir": str(data_dir)}
        self._program.stdin.write(json.dumps(spec).encode() + b"\n")
        try:
            async with asyncio.timeout(_START_S):
                one = await self._arrived.get()
        except TimeoutError:
            raise RuntimeError(f"no instance came up:\n{self.log}") from None
        self._alive.append(one)
        return one
