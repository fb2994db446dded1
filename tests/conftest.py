"""Peers and the program under test, shared by all tests that use sockets.

Test functions may be coroutines: they run on one loop that lives as long as the session, so that a
scripted upstream started for the session answers in every test.
"""

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support import depth, measuring, ordering
from support.certificates import Authority
from support.lab import Lab
from support.postgres import Database, Postgres
from support.stores import PostgresPlace, SqlitePlace, VaultPlace
from support.upstream import Upstream


def pytest_configure(config: pytest.Config) -> None:
    """Coverage looks where it is worth its price, and properties try as many examples as they are asked to."""
    config.pluginmanager.register(measuring)
    config.pluginmanager.register(ordering)
    depth.choose()


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """The loop of the session: ``runner.run(coroutine)``."""
    with asyncio.Runner() as one:
        yield one


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test on the session's loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    loop = pyfuncitem._request.getfixturevalue("runner")
    assert isinstance(loop, asyncio.Runner)
    names = pyfuncitem._fixtureinfo.argnames
    loop.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority that the program under test is told to trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def _lab(
    runner: asyncio.Runner, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    lab = Lab(authority, tmp_path_factory.mktemp("lab"))
    with measuring.untraced_programs():  # whichever test is the first to use it
        runner.run(lab.start())
    with lab.proxy:
        yield lab
    runner.run(lab.stop())


@pytest.fixture
def lab(_lab: Lab, runner: asyncio.Runner) -> Iterator[Lab]:
    """The session's proxy with its two upstreams, which have forgotten everything before."""
    runner.run(_lab.fresh())
    yield _lab
    runner.run(_lab.fresh())


@pytest.fixture
def upstream(lab: Lab) -> Upstream:
    """The session's TLS upstream, ``up.example``, service ``test``."""
    return lab.upstream


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's PostgreSQL, which nobody stops; start one of your own to make it fail."""
    with Postgres() as one:
        yield one


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A fresh database with our schema and nothing else."""
    one = postgres.database()
    yield one
    postgres.spend(one)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> VaultPlace:
    """A place for a vault; a test that asks for it runs on both stores."""
    folder = tmp_path / "place"
    if request.param == "sqlite":
        return SqlitePlace(folder)
    return PostgresPlace(request.getfixturevalue("database"), folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def blank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VaultPlace]:
    """The same, where the first to open it makes the schema."""
    folder = tmp_path / "blank"
    if request.param == "sqlite":
        yield SqlitePlace(folder)
        return
    server: Postgres = request.getfixturevalue("postgres")
    one = server.database(empty=True)
    yield PostgresPlace(one, folder)
    server.spend(one)


_LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the figures printed at the end of the run."""
    return request.config.stash.setdefault(_LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the figures that tests reported."""
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
