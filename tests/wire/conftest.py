"""A proxy with short timeouts, for cases that wait."""

import asyncio
from collections.abc import Iterator

import pytest
from support.certificates import Authority
from support.lab import SHORT, Lab


@pytest.fixture(scope="session")
def _short(
    runner: asyncio.Runner, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    lab = Lab(
        authority, tmp_path_factory.mktemp("short"), settings={"timeouts": SHORT, "limits": {"body_bytes": 0}}
    )
    runner.run(lab.start())
    with lab.proxy:
        yield lab
    runner.run(lab.stop())
