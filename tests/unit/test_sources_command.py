"""Tokens from a command: real programs, run without a shell, bounded, shared, backed off."""

import asyncio
import json
import os
import select
import sys
import textwrap
from pathlib import Path

import pytest
from support.vaults import CATALOG, NOW, Clock

from proxy.connectors.sources.answer import read_expires_at
from proxy.connectors.sources.cache import margin
from proxy.connectors.sources.command import CommandSource
from proxy.errors import ConnectionConfigMissing, CredentialInvalid, NotConnected, RefreshFailed
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")


class Helper:
    """A credential helper whose answer the test sets; it counts its runs."""

    def __init__(self, folder: Path) -> None:
        self.answer = folder / "answer"
        self.runs_file = folder / "runs"
        self.runs_file.write_text("")
        self.code = textwrap.dedent(f"""
            import sys
            with open({str(self.runs_file)!r}, "a") as runs:
                runs.write("x")
            sys.stdout.write(open({str(self.answer)!r}).read())
        """)

    def says(self, **answer: object) -> None:
        self.answer.write_text(json.dumps(answer))

    @property
    def runs(self) -> int:
        return len(self.runs_file.read_text())

    def source(self, service: str = "slack", *, clock: Clock | None = None) -> CommandSource:
        return _source(self.code, service, clock=clock)


@pytest.fixture
def helper(tmp_path: Path) -> Helper:
    """A helper that answers with nothing until told."""
    return Helper(tmp_path)


def _source(
    code: str, service: str = "slack", *, clock: Clock | None = None, timeout: float = 20.0
) -> CommandSource:
    return CommandSource(
        CATALOG.services[service],
        (sys.executable, "-c", code),
        environment={"PATH": "/usr/bin:/bin", "HELPER": "yes"},
        clock=clock or Clock(),
        timeout=timeout,
    )


async def test_what_the_command_prints_is_kept(helper: Helper) -> None:
    """One run serves until a margin before expires_at, as the same object; then one more run (R174)."""
    clock = Clock()
    source = helper.source("tenant", clock=clock)
    helper.says(
        access_token="one", expires_at=NOW + 1000, connection_config={"subdomain": "Acme", "extra": "x"}
    )
    assert source.ready("tenant", None) is None
    first = await source.obtain("tenant", None)
    assert (first.access_token, first.config, first.expires_at) == (
        Secret("one"),
        {"subdomain": "acme"},
        NOW + 1000,
    )
    clock.now += 899
    assert source.ready("tenant", None) is first
    assert source.ready("tenant", "default") is first
    helper.says(access_token="two", expires_at=NOW + 2000, connection_config={"subdomain": "acme"})
    clock.now += 1
    assert source.ready("tenant", None) is None
    second = await source.obtain("tenant", None)
    assert (second.access_token, second.generation, helper.runs) == (Secret("two"), 2, 2)


async def test_callers_at_the_same_time_share_one_run(helper: Helper) -> None:
    """A hundred callers make one run and get one object; one that leaves stops nobody (R183)."""
    source = helper.source()
    helper.says(access_token="one")
    callers = [asyncio.create_task(source.obtain("slack", None)) for _ in range(100)]
    await asyncio.sleep(0)
    callers[0].cancel()
    found = await asyncio.gather(*callers[1:])
    assert len({id(credential) for credential in found}) == 1
    assert helper.runs == 1


async def test_a_token_that_lives_serves_on_while_the_command_fails(helper: Helper) -> None:
    """Inside the margin a failing command does not hurt until a second before the end; attempts back off."""
    clock = Clock()
    source = helper.source(clock=clock)
    helper.says(access_token="one", expires_at=NOW + 1000)
    first = await source.obtain("slack", None)
    helper.answer.write_text("not JSON")
    clock.now += 950
    assert [await source.obtain("slack", None) for _ in range(20)] == [first] * 20
    assert helper.runs == 2
    clock.now += 49
    with pytest.raises(RefreshFailed):
        await source.obtain("slack", None)
    assert helper.runs == 3
    with pytest.raises(RefreshFailed) as caught:
        await source.obtain("slack", None)
    assert helper.runs == 3
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 2
    helper.says(access_token="two")
    clock.now += 2
    assert (await source.obtain("slack", None)).access_token == Secret("two")


async def test_the_clock_going_back_does_not_lock_out(helper: Helper) -> None:
    """After a failure the wait is bounded even if the clock is set back an hour (R125)."""
    clock = Clock()
    source = helper.source(clock=clock)
    helper.answer.write_text("not JSON")
    with pytest.raises(RefreshFailed):
        await source.obtain("slack", None)
    clock.now -= 3600
    helper.says(access_token="one")
    assert (await source.obtain("slack", None)).access_token == Secret("one")


async def test_a_refused_token_is_fetched_once_more(helper: Helper) -> None:
    """After a refusal: a newer token if there is one, None if it is the same, and no storm of runs (R127)."""
    clock = Clock()
    source = helper.source(clock=clock)
    helper.says(access_token="one")
    first = await source.obtain("slack", None)
    helper.says(access_token="two")
    renewed = await asyncio.gather(*(source.refused(first) for _ in range(10)))
    assert {None if one is None else one.access_token.reveal() for one in renewed} <= {"two", None}
    second = source.ready("slack", None)
    assert second is not None
    assert second.access_token == Secret("two")
    assert await source.refused(first) is second
    assert await source.refused(second) is None
    assert helper.runs == 2
    clock.now += 11
    assert await source.refused(second) is None
    assert (helper.runs, source.ready("slack", None)) == (3, second)


@pytest.mark.parametrize(
    ("printed", "match"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "no access_token"),
        ('{"access_token": ""}', "no access_token"),
        ('{"access_token": 7}', "no access_token"),
        ('{"access_token": "x", "expires_at": "soon"}', "not RFC 3339"),
        ('{"access_token": "x", "expires_at": "2030-01-01T00:00:00"}', "no offset"),
        ('{"access_token": "x", "expires_at": 1900000000000}', "not in seconds"),
        ('{"access_token": "x", "expires_at": true}', "neither RFC 3339 nor"),
        ('{"access_token": "x", "connection_config": {"a": 1}}', "not a map of strings"),
        ("[" * 100_000, "not JSON"),
    ],
)
async def test_bad_answers_are_told_without_their_text(helper: Helper, printed: str, match: str) -> None:
    """Whatever else a helper prints is RefreshFailed with the reason and a time to come back."""
    helper.answer.write_text(printed)
    with pytest.raises(RefreshFailed, match=match) as caught:
        await helper.source().obtain("slack", None)
    assert caught.value.retry_after == 1.0


async def test_values_that_cannot_be_used(helper: Helper) -> None:
    """An unusable token, an expired one, a missing or bad connection_config: typed errors that name the place."""
    helper.says(access_token="a\nb")
    with pytest.raises(CredentialInvalid, match="no header can"):
        await helper.source().obtain("slack", None)
    helper.says(access_token="x", expires_at=NOW)
    with pytest.raises(CredentialInvalid, match="expired already"):
        await helper.source().obtain("slack", None)
    helper.says(access_token="x")
    with pytest.raises(ConnectionConfigMissing, match="subdomain"):
        await helper.source("tenant").obtain("tenant", None)
    helper.says(access_token="x", connection_config={"subdomain": "evil.example/#"})
    with pytest.raises(CredentialInvalid, match="subdomain") as caught:
        await helper.source("tenant").obtain("tenant", None)
    assert "evil" not in str(caught.value)


async def test_another_connection_is_not_there(helper: Helper) -> None:
    """The source has one connection; another name is NotConnected without a run."""
    with pytest.raises(NotConnected, match="no 'work'"):
        await helper.source().obtain("slack", "work")
    assert helper.runs == 0


async def test_failures_tell_no_output() -> None:
    """Exit status, not words: what helpers write to either stream is never repeated (R143)."""
    code = "import sys; print('sesame'); print('sesame', file=sys.stderr); sys.exit(3)"
    with pytest.raises(RefreshFailed, match="failed with exit status 3") as caught:
        await _source(code).obtain("slack", None)
    assert "sesame" not in repr(caught.value.__dict__) + str(caught.value)


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """At the time limit the whole process group is gone."""
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    code = textwrap.dedent(f"""
        import subprocess, sys, time
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=open({str(fifo)!r}, "w"))
        time.sleep(600)
    """)
    with pytest.raises(RefreshFailed, match="did not end within 2 s"):
        await _source(code, timeout=2.0).obtain("slack", None)
    hung_up = select.poll()
    hung_up.register(reading, select.POLLIN)
    assert [event for _, event in hung_up.poll(5000)] == [
        select.POLLHUP
    ]  # nobody holds the other end any more
    os.close(reading)


async def test_a_command_that_floods_is_stopped() -> None:
    """More than 1 MiB on standard output ends it; any amount on standard error is drained."""
    with pytest.raises(RefreshFailed, match="more than 1048576 bytes"):
        await _source("import sys\nwhile True: sys.stdout.write('x' * 65536)").obtain("slack", None)
    code = "import sys; sys.stderr.write('x' * 3_000_000); print('{\"access_token\": \"t\"}')"
    assert (await _source(code).obtain("slack", None)).access_token == Secret("t")


async def test_the_command_sees_only_its_environment() -> None:
    """No shell, no inherited variables: the master key of this process is not the helper's to read."""
    os.environ["CONNECTOR_PROXY_TEST_CANARY"] = "x"
    code = "import os, json; print(json.dumps({'access_token': ','.join(sorted(k for k in os.environ if k != 'LC_CTYPE'))}))"
    assert (await _source(code).obtain("slack", None)).access_token == Secret("HELPER,PATH")
    del os.environ["CONNECTOR_PROXY_TEST_CANARY"]


async def test_a_command_that_does_not_exist() -> None:
    """A program that cannot be started is RefreshFailed."""
    source = CommandSource(CATALOG.services["slack"], ("/nonexistent",), environment={}, clock=Clock())
    with pytest.raises(RefreshFailed, match="could not be started"):
        await source.obtain("slack", None)


async def test_closing_ends_a_run() -> None:
    """Closing while the command runs ends it; those who wait for it are told, not cancelled."""
    source = _source("import time; time.sleep(600)")
    waiting = asyncio.create_task(source.obtain("slack", None))
    await asyncio.sleep(0.2)
    await source.close()
    with pytest.raises(RefreshFailed, match="closed or replaced"):
        await waiting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-15T08:00:00Z", 1_800_000_000.0),
        ("2027-01-15T10:00:00.500+02:00", 1_800_000_000.5),
        (1_800_000_000, 1_800_000_000.0),
        (1_800_000_000.25, 1_800_000_000.25),
        (None, None),
    ],
)
def test_forms_of_expires_at(text: object, expected: float | None) -> None:
    """RFC 3339 with any offset and seconds since the epoch mean the same moment."""
    assert read_expires_at({"expires_at": text}) == expected


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [(2, 1), (15, 7.5), (60, 10), (600, 60), (3600, 300), (86400, 300)]
)
def test_margin(lifetime: float, seconds: float) -> None:
    """A tenth of the life, at least 10 s, at most 5 min, never more than half (R124)."""
    assert margin(lifetime) == seconds
