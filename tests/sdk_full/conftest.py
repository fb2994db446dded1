"""The stage that all SDKs share; the table of what they did."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from outcomes import KINDS, SDKS, Outcome, Sdk
from stage import Stage
from support.certificates import Authority
from support.documents import SDK_TESTS, write_readme

_STAGE = pytest.StashKey[Stage]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the full set out unless it is asked for by its marker: it needs what only `make sdk` installs."""
    if "sdk_full" in config.option.markexpr:
        return
    left = [item for item in items if item.get_closest_marker("sdk_full")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def stage(
    request: pytest.FixtureRequest,
    runner: asyncio.Runner,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """Proxy, services, and a process a language."""
    one = Stage(authority, tmp_path_factory.mktemp("sdk"))
    request.config.stash[_STAGE] = one
    runner.run(one.start())
    with one.proxy:
        runner.run(one.open())
        yield one
        runner.run(one.stop())


@pytest.fixture
def outcome(stage: Stage, runner: asyncio.Runner) -> Callable[[Sdk], Outcome]:
    """What an SDK does, run once a session."""
    return lambda sdk: runner.run(stage.outcome(sdk))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table; writes it into the page and the README when all of them ran and nothing failed."""
    stage = config.stash.get(_STAGE, None)
    if stage is None:
        return
    terminalreporter.section("SDKs")
    for line in table(stage.outcomes):
        terminalreporter.write_line(line)
    if set(stage.outcomes) == set(SDKS) and not terminalreporter.stats.keys() & {"failed", "error"}:
        SDK_TESTS.write_text(page(stage.outcomes), encoding="utf-8")
        write_readme()


def table(outcomes: dict[Sdk, Outcome]) -> Iterator[str]:
    """The table's lines: one an SDK."""
    yield "| SDK | version | service | base URL | steps passed | calls | without | our sentence is in |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for sdk, done in sorted(outcomes.items(), key=_place):
        spelt = dict.fromkeys(step.base for step in done.steps if step.kind in KINDS)
        bases = ", ".join(f"`{base}`" if base else "no path, a key made for the service" for base in spelt)
        without = "; ".join(f"{kind}: {why}" for kind, why in done.without.items())
        steps = f"{done.passed} of {len(done.steps)}"
        cells = (
            f"{done.package} ({sdk.language})",
            done.version,
            sdk.service,
            bases,
            steps,
            str(len(done.calls)),
            without,
            next((step.aside for step in done.steps if step.aside), "its text"),
        )
        yield f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _place(item: tuple[Sdk, Outcome]) -> tuple[str, ...]:
    sdk, done = item
    return sdk.language, done.package.lower(), sdk.service


def page(outcomes: dict[Sdk, Outcome]) -> str:
    """``docs/sdk-tests.md``."""
    counts = {language: sum(sdk.language == language for sdk in outcomes) for language in ("python", "node")}
    return _INTRO.format(**counts) + "\n" + "\n".join(table(outcomes)) + "\n"


_INTRO = """# SDKs that are tested

`make sdk` runs the vendors' own SDKs, {python} for Python and {node} for Node, unmodified, through connector-proxy to a TLS server that plays the
services: it has all their hosts, puts their real addresses into its answers, and keeps what arrives. Name look-ups and connections of the SDKs'
processes are trapped, so that a call that leaves the proxy fails. This table is what its last run printed; how to set each of them up is in
[sdks.md](sdks.md).

With each spelling of the base URL an SDK reads, writes, goes through pages and uploads a file, and meets one refusal of the proxy, which it raises
as its own exception. The last column says where that holds our sentence: in the text that the exception shows, but for SDKs that show nothing of any
answer. Of all of them it is checked that no proxy key and no credential of the caller stands in anything that a
service got, that no real token stands in anything that the SDK got, that each call is for the right host, and that what services get is well-formed.

The base URLs of dropbox (Python), google-cloud-bigquery and airtable (Node) are also taken from the environment that `connector-proxy run` gives a program,
which is like one without a proxy.
"""
