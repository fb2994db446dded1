"""The scene that all SDK tests share."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from scene import Run, Scene, Sdk
from support.certificates import Authority


@pytest.fixture(scope="session")
def scene(
    runner: asyncio.Runner, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Proxy and services."""
    one = Scene(authority, tmp_path_factory.mktemp("sdk"))
    runner.run(one.start())
    with one.proxy:
        yield one
    runner.run(one.stop())


@pytest.fixture
def run(scene: Scene, runner: asyncio.Runner) -> Callable[[Sdk], Run]:
    """Runs a program, once a session: ``run(SLACK_PYTHON)``."""
    return lambda sdk: runner.run(scene.run(sdk))
