"""The two real OAuth servers, one of each a session; vaults on both stores; processes to use them."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.grounds import Ground, PostgresGround, SqliteGround
from support.instances import Instances
from support.postgres import Postgres
from support.providers.oidc import Oidc
from support.providers.real import Provider
from support.providers.toolkit import Toolkit


@pytest.fixture(scope="session")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolkit]:
    """django-oauth-toolkit."""
    with Toolkit(tmp_path_factory.mktemp("toolkit")) as one:
        yield one


@pytest.fixture(scope="session")
def oidc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oidc]:
    """oidc-provider."""
    with Oidc(tmp_path_factory.mktemp("oidc")) as one:
        yield one


@pytest.fixture(params=["toolkit", pytest.param("oidc", marks=pytest.mark.node)])
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """Each of them in turn, with an hour's lifetime, no delays and no grace."""
    one: Provider = request.getfixturevalue(request.param)
    plain = {"access_lifetime_s": 3600, "before_s": 0, "after_s": 0}
    if isinstance(one, Toolkit):
        plain["grace_s"] = 0
    one.adjust(**plain)
    yield one
    one.adjust(**plain)


@pytest.fixture(scope="session")
def instances(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    """Processes that use a vault, forked when a test wants one."""
    stack = contextlib.AsyncExitStack()
    started = Instances(tmp_path_factory.mktemp("instances")).running()
    yield runner.run(stack.enter_async_context(started))
    runner.run(stack.aclose())


@pytest.fixture(params=["sqlite", "postgres"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """A place for a vault, in each store in turn; not configured yet."""
    if request.param == "sqlite":
        yield SqliteGround(tmp_path / "ground")
        return
    server: Postgres = request.getfixturevalue("postgres")
    one = server.database()
    yield PostgresGround(tmp_path / "ground", one)
    server.spend(one)
