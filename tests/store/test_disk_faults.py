"""A disk that fails: an error to who asked, the process lives, nothing acknowledged is lost, all is well after (R150)."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SYNCS = "fsync,fdatasync"


class Process:
    """``support.disk`` in a process of its own."""

    def __init__(self, folder: Path, before: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "support.disk", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __call__(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self.line()

    @contextlib.contextmanager
    def failing(self, calls: str, error: str) -> Iterator[None]:
        """While inside, these system calls of the process fail, as strace makes them."""
        tracing = subprocess.Popen(
            [
                *("strace", "-f", "-o", "/dev/null", "-p", str(self._process.pid)),
                *("-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracing.stderr is not None
        told = tracing.stderr.readline()
        assert "attached" in told, f"strace cannot trace a process here, which this test needs: {told}"
        try:
            yield
        finally:
            tracing.send_signal(signal.SIGINT)
            tracing.communicate(timeout=10)

    def end(self, *, kill: bool = False) -> None:
        if kill:
            self._process.kill()
        else:
            assert self._process.poll() is None, "it must have lived to the end"
        self._process.communicate(timeout=20)
        assert kill or self._process.returncode == 0


@contextlib.contextmanager
def working(folder: Path, before: Sequence[str] = ()) -> Iterator[Process]:
    process = Process(folder, before)
    try:
        yield process
    except BaseException:
        process.end(kill=True)
        raise
    process.end()


def _stored(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "vault.db") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = [row[0] for row in plain.execute("SELECT name FROM connections ORDER BY name")]
    plain.close()
    return names


@pytest.mark.system
@pytest.mark.parametrize(
    ("calls", "error", "reason"),
    [
        ("pwrite64", "ENOSPC", "full"),
        ("pwrite64", "EIO", "io"),
        ("pwrite64", "EROFS", "io"),
        (SYNCS, "EIO", "io"),
        (SYNCS, "ENOSPC", "io"),
    ],
)
def test_a_failing_disk_is_an_error_that_passes(tmp_path: Path, calls: str, error: str, reason: str) -> None:
    """Failing writes and syncs: each change is refused whole, reading goes on, and later ones are stored (R150)."""
    folder = tmp_path / "d"
    with working(folder) as process:
        assert process("put before") == "ok"
        with process.failing(calls, error):
            assert [process(f"put refused-{at}") for at in range(3)] == [reason] * 3
            assert process("read") == "before"
            assert process("held") == "before"
            assert process("backup copy.db") != "ok"
        assert process("read") == "before", "what was refused must not appear when the disk works again"
        assert process("put after") == "ok"
        assert process("held") == "after before"
        assert process("backup copy.db") == "ok"
    assert _stored(folder) == ["after", "before"]
    assert sorted(path.name for path in folder.iterdir()) == ["copy.db", "vault.db", "vault.latest"]


@pytest.mark.system
def test_what_was_acknowledged_before_a_failed_sync_survives_a_kill(tmp_path: Path) -> None:
    """A sync fails and the process is killed at once: all that was acknowledged is there, the file is whole (R151)."""
    folder = tmp_path / "d"
    process = Process(folder)
    assert [process(f"put {at}") for at in range(5)] == ["ok"] * 5
    with process.failing(SYNCS, "EIO"):
        assert process("put refused") == "io"
        process.end(kill=True)
    assert set(_stored(folder)) >= {"0", "1", "2", "3", "4"}
    with working(folder) as process:
        assert process("put after") == "ok"


@pytest.mark.system
def test_a_rotation_on_a_failing_disk_goes_on_later(tmp_path: Path) -> None:
    """A rotation that the disk stops loses nothing, and goes on when it is called again (R137, R150)."""
    folder = tmp_path / "d"
    with working(folder) as process:
        assert [process(f"put {at}") for at in range(4)] == ["ok"] * 4
        with process.failing("pwrite64", "ENOSPC"):
            assert process("rotate") == "full"
        assert process("rotate") == "resealed 6"
        assert process("held") == "0 1 2 3"
    with working(folder) as process:
        assert process("held") == "0 1 2 3"


def _namespace() -> list[str]:
    """A command before which a process may mount what goes away with it."""
    for words in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        tried = subprocess.run(
            [*words, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        )
        if tried.returncode == 0:
            return words
    pytest.fail("nothing can be mounted here (root, or user namespaces, are needed): no disk to fill")


@pytest.mark.system
def test_a_full_disk_is_an_error_until_there_is_space(tmp_path: Path) -> None:
    """A disk of 3 MB, filled: changes and backups are refused, reading goes on; with space again all is as before."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=3m,mode=700 tmpfs {disk} && exec "$@"'
    with working(disk / "d", [*_namespace(), "sh", "-c", mount, "sh"]) as process:
        assert process("put before") == "ok"
        assert process("fill") == "ok"
        refused = {process(f"put refused-{at}") for at in range(20)} - {"ok"}
        assert refused == {"full"}
        kept = process("read")
        assert process("held") == kept
        assert process("backup copy.db") in {"full", "io"}
        assert process("rotate") == "full"
        assert process("free") == "ok"
        assert process("put after") == "ok"
        assert process("held") == " ".join(sorted([*kept.split(), "after"]))
        assert process("rotate").startswith("resealed")
        assert process("backup copy.db") == "ok"
