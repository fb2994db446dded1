"""The command line, in this process or in one of its own."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.root import tree
from proxy.cli.session import run

ROOT = Path(__file__).resolve().parents[2]


def heed_interrupts() -> None:
    """For ``preexec_fn``: what a shell runs in the background, or nohup, ignores signals, and so would all that it starts."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its standard output, which must be exactly one JSON document."""
        return json.loads(self.out)


class Inside:
    """Commands run in this process, with a home and a working folder of their own.

    Args:
        folder: an empty folder; ``data`` in it is the data folder.
    """

    def __init__(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        for name in [name for name in os.environ if name.startswith("CONNECTOR_PROXY_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("CONNECTOR_PROXY_DATA_DIR", str(self.data))
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        monkeypatch.chdir(folder)

    def set(self, variables: Mapping[str, str]) -> None:
        """Our settings in the environment are these from now on, and where the data folder is."""
        for name in [name for name in os.environ if name.startswith("CONNECTOR_PROXY_")]:
            self._monkeypatch.delenv(name)
        for name, value in {"CONNECTOR_PROXY_DATA_DIR": str(self.data), **variables}.items():
            self._monkeypatch.setenv(name, value)

    def __call__(self, *args: str, stdin: bytes = b"") -> Done:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capsys.readouterr()
        before = os.umask(0o022)
        try:
            code = run(tree(args), args)
        finally:
            os.umask(before)  # `serve` settles its process, which is this one
        out, err = self._capsys.readouterr()
        return Done(code, out, err)


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without our settings, with another home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_PROXY_")}
    kept.pop("XDG_DATA_HOME", None)
    return {**kept, "HOME": str(folder), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(extra or {})}


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """The same for a program that is not ours: to trace it for coverage doubles what it costs."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_PROCESS_")}


def command(
    *args: str,
    folder: Path,
    stdin: bytes = b"",
    extra: Mapping[str, str] | None = None,
    flags: tuple[str, ...] = (),
    timeout: float = 60.0,
) -> Done:
    """``python FLAGS -m proxy ARGS`` in ``folder``, to its end."""
    done = subprocess.run(
        [sys.executable, *flags, "-m", "proxy", *args],
        input=stdin,
        capture_output=True,
        cwd=folder,
        env=environment(folder, extra),
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
