"""A process that works on a vault while its disk fails, told what to do line by line.

Run as ``python -m support.disk FOLDER``; each line of standard input is a command, each line of standard output
its outcome: ``ok``, the reason of a StoreError, or what was asked for.
"""

import asyncio
import ctypes
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from proxy.connectors.backup import back_up
from proxy.connectors.model import Tokens
from proxy.connectors.vault import Vault
from proxy.errors import StateError, StoreError
from proxy.secret import Secret
from support.vaults import opened

_PR_SET_PTRACER, _ANYONE = 0x59616D61, -1


class Worker:
    """One method a command."""

    def __init__(self, folder: Path, vault: Vault) -> None:
        self._folder = folder
        self._vault = vault

    async def put(self, name: str) -> str:
        await self._vault.save_connection("slack", name, Tokens(Secret(f"token-{name}" + "x" * 2000)))
        return "ok"

    async def read(self, _: str) -> str:
        async with self._vault.store.snapshot() as reading:
            rows = await reading.fetch("SELECT name FROM connections ORDER BY name")
        return " ".join(row["name"] for row in rows) or "nothing"

    async def held(self, _: str) -> str:
        await self._vault.catch_up()
        return " ".join(sorted(one.name for one in self._vault.connections())) or "nothing"

    async def rotate(self, _: str) -> str:
        done = await self._vault.rotate(batch=1)
        return f"resealed {done.resealed}"

    async def backup(self, name: str) -> str:
        back_up(self._folder, self._folder / name)
        return "ok"

    async def fill(self, _: str) -> str:
        with (self._folder.parent / "filler").open("wb", buffering=0) as file:
            for size in (65536, 4096, 512, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    continue
        return "ok"

    async def free(self, _: str) -> str:
        (self._folder.parent / "filler").unlink()
        return "ok"


async def _answer(command: Callable[[str], Coroutine[Any, Any, str]], argument: str) -> str:
    try:
        return await command(argument)
    except StoreError as error:
        return error.reason
    except StateError as error:
        return f"state {error}"


async def _main(folder: Path) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYONE, 0, 0, 0)  # the test's strace is no parent of ours
    loop = asyncio.get_running_loop()
    async with opened(folder) as vault:
        worker = Worker(folder, vault)
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command, _, argument = line.strip().partition(" ")
            print(await _answer(getattr(worker, command), argument), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
