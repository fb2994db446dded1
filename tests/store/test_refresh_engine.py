"""The refresh of tokens, on both stores and against a provider on real sockets."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from support.providers.scripted import (
    BUSY,
    CLOSE_AFTER,
    CUT_BODY,
    CUT_JSON,
    EMPTY,
    HTML,
    HTML_502,
    RESET_AFTER,
    RESET_BEFORE,
    WRONG_TYPES,
    Reply,
    body,
    busy,
    error,
    good,
    held,
)
from support.refreshing import LIFE, Process, Scene, scene
from support.stores import SqlitePlace, VaultPlace
from support.vaults import NOW

from proxy.connectors.model import Tokens
from proxy.connectors.oauth.registration import Registration
from proxy.connectors.refresh.lease import BEAT_S, FORCED_S, STALE_S
from proxy.connectors.refresh.owner import this_process
from proxy.connectors.refresh.renewed import FLAGS
from proxy.connectors.refresh.states import shown
from proxy.errors import NotConnected, ReauthorizationRequired, RefreshFailed, RefreshInProgress
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")


@pytest.fixture
def sqlite(tmp_path: Path) -> VaultPlace:
    """For what is the same whatever the store."""
    return SqlitePlace(tmp_path / "place")


async def failure(process: Process) -> tuple[str, str, float | None]:
    """Kind, text and wait of the error that a caller gets."""
    with pytest.raises((RefreshFailed, RefreshInProgress, ReauthorizationRequired, NotConnected)) as caught:
        await process.token()
    found = caught.value
    assert isinstance(found, RefreshFailed | RefreshInProgress | ReauthorizationRequired | NotConnected)
    return type(found).__name__, found.detail, found.retry_after


# --- one refresh, saved before it is served -----------------------------------------------------------


async def test_a_hundred_callers_make_one_request(place: VaultPlace) -> None:
    """100 callers of one process on an expired token: one request, one new token for all (R110, R111, R183)."""
    async with scene(place) as on:
        await on.connect()
        on.clock.now += LIFE
        got = await asyncio.gather(*(on.first.token() for _ in range(100)))
        assert set(got) == {"access-1"}
        assert on.spent() == ["spend-0"]
        assert on.row("generation, expires_at", "connections") == [
            "2",
            str(round((on.clock() + LIFE) * 1000)),
        ]
        assert on.first.outcomes == ["refreshed"]


async def test_processes_share_one_refresh(place: VaultPlace) -> None:
    """Three processes x 10 callers on one vault: one request; those who lost take what the winner stored (R110, R111)."""
    async with scene(place) as on, on.process() as second, on.process() as third:
        await on.connect()
        on.clock.now += LIFE
        got = await asyncio.gather(*(one.token() for one in (on.first, second, third) for _ in range(10)))
        assert set(got) == {"access-1"}
        assert on.spent() == ["spend-0"]
        assert on.row("owner, attempt_id, failures, unknowns") == ["", "", "0", "0"]


async def test_a_token_is_committed_before_it_is_served(place: VaultPlace) -> None:
    """Whoever gets the new token finds it stored already, and a later process goes on with it (R113, R175)."""
    async with scene(place) as on:
        await on.connect()
        on.clock.now += LIFE
        assert await on.first.token() == "access-1"
        async with on.process() as later:
            assert await later.token() == "access-1"
            on.clock.now += LIFE
            assert await later.token() == "access-2"
        assert on.spent() == ["spend-0", "refresh-1"]


async def test_an_answer_without_refresh_token_keeps_the_old_one(sqlite: VaultPlace) -> None:
    """No new refresh token, or the same again: the stored one and its end stay in force (R114)."""
    async with scene(sqlite) as on:
        connection = await on.connect()
        end = on.clock() + 90 * 86400
        sqlite.run(
            f"UPDATE connections SET refresh_expires_at = {round(end * 1000)}, sequence = sequence + 1"  # noqa: S608  # a number of ours
        )
        for reply in (good(refresh_token=None), good(refresh_token="spend-0"), good(refresh_token="next")):
            on.provider.answer(reply)
            on.clock.now += LIFE
            await on.first.token()
        assert on.spent() == ["spend-0"] * 3
        kept = on.first.vault.snapshot.held[connection.connection_id].tokens
        assert kept is not None
        assert kept.refresh_token == Secret("next")
        assert kept.refresh_expires_at is None, "the end of the old one says nothing about the new one"


async def test_a_caller_that_leaves_stops_nothing(sqlite: VaultPlace) -> None:
    """The only caller is cancelled while the request is out: the answer is stored all the same (R115)."""
    async with scene(sqlite) as on:
        caller, gate = await on.under_way()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        gate.set()
        await on.first.settled()
        assert await on.first.token() == "access-1"
        assert on.spent() == ["spend-0"]


async def test_a_stop_waits_for_the_answer(sqlite: VaultPlace) -> None:
    """Closing during a refresh waits for it and its commit, and begins no other (R115)."""
    async with scene(sqlite) as on:
        caller, gate = await on.under_way()
        closing = asyncio.create_task(on.first.refresher.close(grace_s=10.0))
        await asyncio.sleep(0)
        assert not closing.done()
        gate.set()
        await closing
        assert await caller == "access-1"
        assert on.row("generation", "connections") == ["2"]
        on.clock.now += LIFE
        assert (await failure(on.first))[0] in {"NotConnected", "RefreshFailed"}
        assert on.spent() == ["spend-0"]


async def test_the_intent_is_durable_before_the_request(place: VaultPlace) -> None:
    """While the request is out the store names attempt, generation, fingerprint and owner; the lists say refreshing (R116)."""
    async with scene(place) as on:
        caller, gate = await on.under_way()
        fence, attempt, generation, owner = on.row("fence, attempt_id, attempt_generation, owner")
        assert (fence, generation, owner) == ("1", "1", str(this_process()))
        assert attempt.startswith("att_")
        async with on.process() as other:
            assert [one.state for one in await shown(other.vault)] == ["refreshing"]
        gate.set()
        assert await caller == "access-1"
        assert [one.state for one in await shown(on.first.vault)] == ["active"]


# --- before and after the end -------------------------------------------------------------------------


async def test_inside_the_margin_one_background_refresh(sqlite: VaultPlace) -> None:
    """Near its end a token serves on while one refresh runs; nobody waits (R123, R124)."""
    gate = asyncio.Event()
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(held(gate))
        on.clock.now += LIFE - 100
        for _ in range(50):
            living = on.first.ready()
            assert living is not None
            assert living.access_token == Secret("old-0")
        await on.provider.wait(1)
        assert await on.first.token() == "old-0"
        gate.set()
        await on.first.settled()
        assert await on.first.token() == "access-1"
        assert on.spent() == ["spend-0"]


async def test_outside_the_margin_nothing_happens(sqlite: VaultPlace) -> None:
    """A fresh token makes no request."""
    async with scene(sqlite) as on:
        await on.connect()
        on.clock.now += LIFE - 400
        assert on.first.ready() is not None
        assert not on.first.refresher._tasks


async def test_two_second_tokens_work(sqlite: VaultPlace) -> None:
    """Tokens that live 2 s, or none at all, are handed out, each to those who waited for it (R124)."""
    async with scene(sqlite) as on:
        await on.connect(life=2.0)
        on.provider.lifetime = 2
        for number in range(1, 6):
            on.clock.now += 1.5
            assert set(await asyncio.gather(*(on.first.token() for _ in range(20)))) == {f"access-{number}"}
        on.provider.lifetime = 0
        on.clock.now += 2
        assert await on.first.token() == "access-6"


@pytest.mark.parametrize("jump", [-3600.0, 86400.0])
async def test_a_clock_that_jumps(sqlite: VaultPlace, jump: float) -> None:
    """An hour back or a day forth: at most one refresh, and no back-off that never ends (R125)."""
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(busy(503, None))
        on.clock.now += LIFE
        assert (await failure(on.first))[0] == "RefreshFailed"
        on.clock.now += jump
        on.steady.now += 61
        got = [await on.first.token() for _ in range(5)]
        assert len(set(got)) == 1
        assert len(on.spent()) <= 2


async def test_a_provider_that_says_how_long(sqlite: VaultPlace) -> None:
    """A lifetime counts from before the request was sent (R125)."""
    async with scene(sqlite) as on:
        await on.connect()
        on.clock.now += LIFE

        async def later(_seconds: float = 7.0) -> None:
            await on.provider.wait(1)
            on.clock.now += 7.0
            gate.set()

        gate = asyncio.Event()
        on.provider.answer(held(gate))
        await asyncio.gather(on.first.token(), later())
        assert on.row("issued_at, expires_at", "connections") == [
            str(round((NOW + LIFE) * 1000)),
            str(round((NOW + 2 * LIFE) * 1000)),
        ]


# --- failures -----------------------------------------------------------------------------------------


async def test_a_dead_grant_needs_a_person(place: VaultPlace) -> None:
    """invalid_grant: state, cause, notice and audit row at once; the next calls make no provider traffic (R120, R122)."""
    async with scene(place) as on:
        await on.connect()
        on.provider.answer(error("invalid_grant"))
        on.clock.now += LIFE
        for _ in range(3):
            kind, text, _ = await failure(on.first)
            assert kind == "ReauthorizationRequired"
            assert "connector-proxy connect scripted --connection main" in text
        assert on.spent() == ["spend-0"]
        assert on.row("state, cause", "connections") == ["reauthorization_required", "invalid_grant"]
        assert on.row("COUNT(*)", "notices") == ["1"]
        entry = (await on.first.vault.audit(limit=1))[0]
        assert (entry.actor, entry.action, entry.detail["outcome"]) == (
            "refresh",
            "connection.refresh",
            "dead",
        )
        assert [(event.outcome, event.cause) for event in on.first.events] == [("dead", "invalid_grant")]


async def test_a_dead_grant_ends_no_living_token(sqlite: VaultPlace) -> None:
    """A background refresh that finds the grant dead leaves the access token to its end, and is not repeated (R123)."""
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(error("invalid_grant"))
        on.clock.now += LIFE - 100
        assert on.first.ready() is not None
        await on.first.settled()
        assert await on.first.token() == "old-0"
        assert [one.state for one in on.first.vault.connections()] == ["reauthorization_required"]
        on.clock.now += 100
        assert (await failure(on.first))[0] == "ReauthorizationRequired"
        assert on.spent() == ["spend-0"]


async def test_a_dead_grant_that_someone_replaced_is_not_dead(place: VaultPlace) -> None:
    """invalid_grant arrives after the person has connected again: the new tokens stay and serve (R120, R132)."""
    async with scene(place) as on, on.process() as other:
        caller, gate = await on.under_way(error("invalid_grant"))
        new = Tokens(Secret("old-new"), Secret("spend-new"), on.clock() + LIFE, on.clock())
        await other.vault.save_connection("scripted", "main", new, registration="scripted")
        gate.set()
        assert await caller == "old-new"
        assert on.row("state, generation", "connections") == ["active", "2"]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (BUSY[0], "busy"),
        (BUSY[1], "busy"),
        (busy(429, None), "busy"),
        (HTML, "unknown"),
        (HTML_502, "unknown"),
        (EMPTY, "unknown"),
        (CUT_JSON, "unknown"),
        (CUT_BODY, "unknown"),
        (RESET_AFTER, "unknown"),
        (CLOSE_AFTER, "unknown"),
        *((reply, "unknown") for reply in WRONG_TYPES),
    ],
)
async def test_what_is_not_final(sqlite: VaultPlace, reply: Reply, outcome: str) -> None:
    """5xx, 429, HTML, nothing, half an answer: the connection stays, the living token serves, then 503 with a wait (R120, R123)."""
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(reply)
        on.clock.now += LIFE - 100
        assert on.first.ready() is not None
        await on.first.settled()
        assert on.first.outcomes == [outcome]
        assert await on.first.token() == "old-0"
        assert [one.state for one in on.first.vault.connections()] == ["active"]
        on.clock.now += 100
        on.steady.now += 100
        assert await on.first.token() == "access-1" or outcome == "unknown"
        assert on.spent() == ["spend-0", "spend-0"]


async def test_back_off(sqlite: VaultPlace) -> None:
    """One attempt a caller at most, none before the wait is over, Retry-After honoured, doubled each time (R122)."""
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(busy(429, "100"), BUSY[0], BUSY[1])
        on.clock.now += LIFE
        waits = []
        for attempt in range(1, 5):
            if attempt == 4:
                on.provider.answer(RESET_BEFORE)
            kind, _, wait = await failure(on.first)
            assert kind == "RefreshFailed"
            assert wait is not None
            waits.append(wait)
            for _ in range(3):
                assert (await failure(on.first))[0] == "RefreshFailed"
            assert len(on.spent()) == min(attempt, 3), "the fourth is reset before it is read"
            async with on.process() as other:
                assert (await failure(other))[0] == "RefreshFailed"
            assert len(on.spent()) == min(attempt, 3), "another process waits too"
            on.clock.now += wait + 1
            on.steady.now += wait + 1
        assert waits[0] == pytest.approx(100, abs=1)
        for wait, least in zip(waits[1:], (60, 120, 240), strict=True):
            assert least - 1 <= wait <= least * 1.25 + 1
        assert await on.first.token() == "access-1"
        assert on.row("failures, last_error, retry_at") == ["0", "", ""]


async def test_a_refused_app_is_the_operators_fault(sqlite: VaultPlace) -> None:
    """invalid_client: the grant stays, callers are told whom to ask, and a mended app is tried at once (R120)."""
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(error("invalid_client", 401))
        on.clock.now += LIFE
        kind, text, wait = await failure(on.first)
        assert kind == "RefreshFailed"
        assert "registrations set" in text
        assert wait == pytest.approx(900, abs=1)
        assert [one.state for one in on.first.vault.connections()] == ["active"]
        assert on.first.outcomes == ["application_fault"]
        on.steady.now += 61
        assert (await failure(on.first))[0] == "RefreshFailed"
        assert len(on.spent()) == 1
        on.steady.now += 61
        on.first.registrations.declared = {
            "scripted": Registration("scripted", "scripted", "mended", Secret("secret-2"))
        }
        assert await on.first.token() == "access-1"


async def test_without_a_registration_nothing_is_tried(sqlite: VaultPlace) -> None:
    """No app is registered: callers get the command that registers one; once there is one, the token comes."""
    async with scene(sqlite) as on:
        await on.connect()
        declared, on.first.registrations.declared = on.first.registrations.declared, {}
        on.clock.now += LIFE
        kind, text, _ = await failure(on.first)
        assert (kind, "registrations set scripted" in text) == ("RefreshFailed", True)
        assert on.spent() == []
        on.first.registrations.declared = declared
        on.clock.now += 6
        on.steady.now += 6
        assert await on.first.token() == "access-1"


async def test_waiting_is_bounded(sqlite: VaultPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller waits so long and no longer, then hears that it goes on, and when to come again (R130)."""
    monkeypatch.setattr("proxy.connectors.refresh.refresher.WAIT_S", 0.05)
    gate = asyncio.Event()
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(held(gate))
        on.clock.now += LIFE
        kind, _, wait = await failure(on.first)
        assert (kind, wait) == ("RefreshInProgress", 2.0)
        gate.set()
        await on.first.settled()
        assert await on.first.token() == "access-1"


# --- an attempt of unknown end ------------------------------------------------------------------------


async def test_an_unknown_end_spends_nothing_while_the_token_lives(place: VaultPlace) -> None:
    """Reset after sending: the living token is used to its end, then one try; what it says is honest (R117, R121)."""
    async with scene(place) as on:
        await on.connect()
        on.provider.answer(RESET_AFTER, error("invalid_grant"))
        on.clock.now += LIFE - 100
        assert on.first.ready() is not None
        await on.first.settled()
        for _ in range(5):
            on.clock.now += 10
            on.steady.now += 61
            assert on.first.ready() is not None
            await on.first.settled()
        async with on.process() as other:
            assert other.ready() is not None
            await other.settled()
            await other.refresher.look()
            await other.settled()
        assert on.spent() == ["spend-0"]
        on.clock.now += 50
        assert (await failure(on.first))[0] == "ReauthorizationRequired"
        assert on.spent() == ["spend-0", "spend-0"]
        assert on.row("cause", "connections") == ["refresh_interrupted"]


async def test_an_unknown_end_that_was_none(place: VaultPlace) -> None:
    """The provider never carried it out: the one try at the end of the token succeeds, without a person (R117, R121)."""
    async with scene(place) as on:
        await on.connect()
        on.provider.answer(HTML_502)
        on.clock.now += LIFE - 100
        assert on.first.ready() is not None
        await on.first.settled()
        on.clock.now += 101
        on.steady.now += 101
        assert await on.first.token() == "access-1"
        assert on.row("unknowns, failures, attempt_id") == ["0", "0", ""]


async def test_in_the_grace_time_it_is_tried_again_at_once(place: VaultPlace) -> None:
    """Where a spent token goes on working for a while, the second try does not wait for anybody (R117, R121)."""
    async with scene(place, refresh_grace_s=30) as on:
        await on.connect()
        on.provider.answer(RESET_AFTER)
        on.clock.now += LIFE - 100
        assert on.first.ready() is not None
        await on.first.settled()
        assert on.first.outcomes == ["unknown", "refreshed"]
        assert await on.first.token() == "access-1"
        assert on.spent() == ["spend-0", "spend-0"]


async def test_a_refresh_token_that_is_not_spent_by_use(sqlite: VaultPlace) -> None:
    """Where refresh tokens are used over and over, an unknown end is a failure like others: with back-off (R121)."""
    async with scene(sqlite, refresh="stable") as on:
        await on.connect()
        on.provider.answer(RESET_AFTER)
        on.clock.now += LIFE - 100
        assert on.first.ready() is not None
        await on.first.settled()
        on.clock.now += 40
        on.steady.now += 40
        assert on.first.ready() is not None
        await on.first.settled()
        assert await on.first.token() == "access-1"


async def test_a_refused_token_ends_the_waiting(sqlite: VaultPlace) -> None:
    """After an unknown end the service refuses the living token: then the one try is due (R117, R127)."""
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(RESET_AFTER)
        on.clock.now += LIFE - 100
        living = on.first.ready()
        assert living is not None
        await on.first.settled()
        assert await on.first.source.refused(living) is None, "the back-off holds for this too"
        on.clock.now += 40
        newer = await on.first.source.refused(living)
        assert newer is not None
        assert newer.access_token == Secret("access-1")


# --- the service refuses a token ----------------------------------------------------------------------


async def test_a_refused_token_makes_one_refresh(place: VaultPlace) -> None:
    """50 callers with a refused token: one request; who comes late with the old one gets the new one (R127)."""
    async with scene(place) as on:
        await on.connect()
        old = on.first.ready()
        assert old is not None
        newer = await asyncio.gather(*(on.first.source.refused(old) for _ in range(50)))
        assert {one.access_token.reveal() for one in newer if one is not None} == {"access-1"}
        assert None not in newer
        assert await on.first.source.refused(old) is newer[0]
        assert on.spent() == ["spend-0"]
        assert on.first.events[0].forced


async def test_forced_refreshes_are_rare(place: VaultPlace) -> None:
    """A service that refuses whatever it gets makes one refresh a minute, over all processes (R127)."""
    async with scene(place) as on, on.process() as other:
        await on.connect()
        first = on.first.ready()
        assert first is not None
        newer = await on.first.source.refused(first)
        assert newer is not None
        assert await on.first.source.refused(newer) is None
        await other.vault.catch_up()
        theirs = other.ready()
        assert theirs is not None
        assert await other.source.refused(theirs) is None
        assert on.spent() == ["spend-0"]
        on.clock.now += FORCED_S + 1
        on.steady.now += FORCED_S + 1
        assert await on.first.source.refused(newer) is not None
        assert on.spent() == ["spend-0", "refresh-1"]


async def test_a_refused_token_whose_grant_is_dead(place: VaultPlace) -> None:
    """The refresh proves the grant dead: the caller is told so, and the refused token serves nobody any more (R127, R182)."""
    async with scene(place) as on:
        await on.connect()
        on.provider.answer(error("invalid_grant"))
        old = on.first.ready()
        assert old is not None
        with pytest.raises(ReauthorizationRequired):
            await on.first.source.refused(old)
        on.clock.now += 0.1
        assert on.first.ready() is None
        assert (await failure(on.first))[0] == "ReauthorizationRequired"
        with pytest.raises(ReauthorizationRequired):
            await on.first.source.refused(old)
        assert on.spent() == ["spend-0"]


async def test_a_refused_token_while_the_provider_is_busy(sqlite: VaultPlace) -> None:
    """No better token can be had: the service's refusal is what the caller gets (R127)."""
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(BUSY[0])
        old = on.first.ready()
        assert old is not None
        assert await on.first.source.refused(old) is None
        assert on.first.ready() is old


# --- what may not be refreshed ------------------------------------------------------------------------


async def test_removed_during_the_refresh(place: VaultPlace) -> None:
    """The late answer of a removed connection is thrown away: nothing comes back to life (R132)."""
    async with scene(place) as on, on.process() as other:
        caller, gate = await on.under_way(asking=failure)
        await other.vault.remove("scripted", "main")
        gate.set()
        assert (await caller)[0] == "NotConnected"
        assert on.first.vault.connections() == ()
        assert on.first.outcomes == ["discarded"]
        assert on.row("COUNT(*)") == ["0"]
        await on.first.refresher.close()
        assert [request.form["token"] for request in on.provider.revocations] == ["refresh-1"]
        (told,) = [row for row in await other.vault.audit() if row.action == "connection.revoke"]
        assert told.detail == {"done": True, "removed_during_refresh": True}


@pytest.mark.parametrize("why", ["kept", "handed in", "shared", "connected again"])
async def test_what_a_removal_leaves_alone(sqlite: VaultPlace, why: str) -> None:
    """Late tokens are not revoked where the grant was to be kept, or may serve another connection or program (R109)."""
    async with scene(sqlite, revoke_shared=why == "shared") as on, on.process() as other:
        if why == "shared":
            await on.connect(7, name="other")
        given = {"registration": None} if why == "handed in" else {}
        gate = asyncio.Event()
        await on.connect(**given)
        on.provider.answer(held(gate))
        on.clock.now += LIFE
        caller = asyncio.create_task(on.first.source.obtain("scripted", "main"))
        await on.provider.wait(1)
        await other.vault.remove("scripted", "main", keeps_grant=why == "kept")
        if why == "connected again":
            await on.connect(9)
        gate.set()
        await asyncio.wait([caller])
        caller.exception()  # the connection is gone; with another one in its place there is a token
        await on.first.refresher.close()
        assert on.first.outcomes == ["discarded"]
        assert on.provider.revocations == []


async def test_connected_again_during_the_refresh(place: VaultPlace) -> None:
    """The late answer for the old grant does not overwrite the new one; its caller gets the new token (R132)."""
    async with scene(place) as on, on.process() as other:
        caller, gate = await on.under_way()
        new = Tokens(Secret("old-new"), Secret("spend-new"), on.clock() + LIFE, on.clock())
        await other.vault.save_connection("scripted", "main", new, registration="scripted")
        gate.set()
        assert await caller == "old-new"
        assert on.first.outcomes == ["discarded"]
        on.clock.now += LIFE
        await on.first.token()
        assert on.spent() == ["spend-0", "spend-new"]


async def test_frozen_during_the_refresh(sqlite: VaultPlace) -> None:
    """The new tokens are kept, but the connection stays frozen until it is thawed; frozen ones are not refreshed."""
    async with scene(sqlite) as on, on.process() as other:
        caller, gate = await on.under_way(asking=failure)
        await other.vault.freeze("scripted", "main")
        gate.set()
        assert (await caller)[0] == "NotConnected"
        assert await failure(on.first) == ("NotConnected", (await failure(other))[1], None)
        assert on.row("state, cause, generation", "connections") == ["frozen", "operator", "2"]
        await other.vault.freeze("scripted", "main", frozen=False)
        assert await on.first.token() == "access-1"
        assert on.spent() == ["spend-0"]


async def test_a_copy_never_refreshes(place: VaultPlace, tmp_path: Path) -> None:
    """In a copy living tokens serve and nothing is spent, whatever is asked for; after ``adopt`` it goes on (design §6)."""
    async with scene(place) as on:
        await on.connect()
        copied = replace_place(on, place.copied(tmp_path / "copy"))
        async with copied.process() as copy:
            assert await copy.token() == "old-0"
            on.clock.now += LIFE - 100
            old = copy.ready()
            assert old is not None
            await copy.refresher.look()
            assert await copy.source.refused(old) is None
            on.clock.now += 100
            kind, text, _ = await failure(copy)
            assert (kind, "vault adopt" in text) == ("NotConnected", True)
            await copy.settled()
            assert on.spent() == []
            await copy.vault.adopt()
            assert await copy.token() == "access-1"
        assert on.spent() == ["spend-0"]


def replace_place(on: Scene, place: VaultPlace) -> Scene:
    """The same scene over another vault."""
    return Scene(place, on.provider, on.catalog, on.clock, on.steady)


# --- other ways to a token ----------------------------------------------------------------------------


async def test_app_tokens_are_minted(sqlite: VaultPlace) -> None:
    """client_credentials: no refresh token is needed; the next token is bought like the first one."""
    async with scene(sqlite, grant="client_credentials", refresh="remint") as on:
        now = on.clock()
        await on.first.vault.save_connection(
            "scripted", "main", Tokens(Secret("old"), None, now + LIFE, now), registration="scripted"
        )
        on.provider.answer(good(refresh_token=None), good(refresh_token=None))
        for number in (1, 2):
            on.clock.now += LIFE
            assert await on.first.token() == f"access-{number}"
        assert [request.form["grant_type"] for request in on.provider.requests] == ["client_credentials"] * 2


async def test_tokens_without_a_way_to_the_next(sqlite: VaultPlace) -> None:
    """No refresh token: used to the end, then a person is told what to do; a refusal changes nothing."""
    async with scene(sqlite) as on:
        now = on.clock()
        await on.first.vault.save_connection(
            "scripted", "main", Tokens(Secret("old"), None, now + LIFE, now), registration="scripted"
        )
        on.clock.now += LIFE - 10
        old = on.first.ready()
        assert old is not None
        assert await on.first.source.refused(old) is None
        on.clock.now += 10
        assert (await failure(on.first))[0] == "ReauthorizationRequired"
        await on.first.settled()
        assert on.spent() == []


# --- what an answer is conspicuous for ----------------------------------------------------------------


async def test_another_account_or_less_access_is_stored_and_flagged(
    sqlite: VaultPlace, tmp_path: Path
) -> None:
    """The provider answers for someone else, or grants less: kept, flagged in metadata, event, audit and notices (R128)."""
    async with scene(sqlite, answer={"account_id": "user.id", "account_name": "user.name"}) as on:
        await on.connect(scopes=("read", "write"), account="ann", metadata={"account_id": "1"})
        on.provider.answer(good(scope="read", user={"id": "2", "name": "bob"}))
        on.clock.now += LIFE
        assert await on.first.token() == "access-1"
        flags = ("account_changed", "scopes_reduced")
        assert on.first.events[0].flags == flags
        found = on.first.vault.connections()[0]
        assert (found.account, found.scopes, found.metadata[FLAGS]) == ("bob", ("read",), " ".join(flags))
        entry = (await on.first.vault.audit(limit=1))[0]
        assert entry.detail["flags"] == list(flags)
        assert sqlite.run("SELECT COUNT(*) FROM notices") == "2\n"


async def test_a_name_alone_is_no_other_account(sqlite: VaultPlace) -> None:
    """The verify call may name an account otherwise than the token answer: the id decides, and the name shown stays."""
    async with scene(sqlite, answer={"account_id": "user.id", "account_name": "team.name"}) as on:
        await on.connect(scopes=("read",), account="ann", metadata={"account_id": "1"})
        on.provider.answer(good(scope="read", user={"id": "1"}, team={"name": "Acme"}))
        on.clock.now += LIFE
        assert await on.first.token() == "access-1"
        assert on.first.events[0].flags == ()
        assert on.first.vault.connections()[0].account == "ann"


async def test_one_grant_in_two_connections_is_noticed(place: VaultPlace) -> None:
    """Two connections with the same single-use refresh token would end each other: flagged when one is refreshed (R129)."""
    async with scene(place) as on:
        await on.connect(7, name="main")
        await on.connect(7, name="twin")
        on.clock.now += LIFE
        await on.first.source.obtain("scripted", "main")
        assert on.first.events[0].flags == ("shared_grant",)
        assert "shared_grant" in on.first.vault.connections()[0].metadata[FLAGS]


# --- leases of others ---------------------------------------------------------------------------------


async def test_a_dead_owner_is_followed_at_once(place: VaultPlace) -> None:
    """A lease whose process is provably gone holds nobody up (R112, R152)."""
    async with scene(place, refresh_grace_s=30) as on:
        await on.connect()
        gone = replace(this_process(), start=this_process().start - 1)
        _leave(on, str(gone))
        on.clock.now += 5
        await on.first.refresher.look()
        await on.first.settled()
        assert await on.first.token() == "access-1"


async def test_a_dead_owner_s_attempt_is_not_repeated_blindly(place: VaultPlace) -> None:
    """Without a known grace time the interrupted attempt waits for the end of the living token, then is tried once (R117)."""
    async with scene(place) as on:
        await on.connect()
        gone = replace(this_process(), start=this_process().start - 1)
        _leave(on, str(gone))
        await on.first.refresher.look()
        await on.first.settled()
        assert on.spent() == []
        assert on.row("owner, unknowns") == ["", "1"]
        on.clock.now += LIFE
        on.steady.now += LIFE
        await on.first.refresher.look()
        await on.first.settled()
        assert on.spent() == ["spend-0"]
        assert await on.first.token() == "access-1"


async def test_an_owner_elsewhere_is_believed_until_its_beats_stop(
    place: VaultPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another machine only silence tells: after 20 s of our own clock without a beat its lease is ours (R112, R152)."""
    monkeypatch.setattr(
        "proxy.connectors.refresh.renewal._LAST_LOOK_S", 0.02
    )  # often while the beat is counted up
    async with scene(place) as on:
        await on.connect()
        _leave(on, str(replace(this_process(), instance="elsewhere/pid:[1]")))
        on.clock.now += LIFE
        caller = asyncio.create_task(on.first.token())
        await asyncio.sleep(0.3)
        for _ in range(3):
            on.steady.now += STALE_S - 1
            place.run("UPDATE refreshes SET beat = beat + 1")
            await asyncio.sleep(0.5)
        assert on.spent() == [], "it has shown that it lives"
        on.steady.now += STALE_S + 1
        assert await caller == "access-1"
        assert on.row("fence") == ["2"]


async def test_a_holder_shows_that_it_lives(place: VaultPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its request is out the holder counts its beat up; each well within the time after which it is taken for gone (R112)."""
    assert 4 * BEAT_S < STALE_S
    monkeypatch.setattr("proxy.connectors.refresh.renewal.BEAT_S", 0.02)
    async with scene(place) as on:
        caller, gate = await on.under_way()
        async with asyncio.timeout(20):
            while int(on.row("beat")[0]) < 2:  # noqa: ASYNC110  # the store tells nobody
                await asyncio.sleep(0.02)
        gate.set()
        assert await caller == "access-1"


def _leave(on: Scene, owner: str) -> None:
    """The lease and intent of a process that began a refresh of the living token just now."""
    connection = on.first.vault.connections()[0]
    mark = on.first.vault.mark(Secret("spend-0")).hex()
    blob = f"x'{mark}'" if on.place.kind == "sqlite" else f"'\\x{mark}'::bytea"
    on.place.run(
        "INSERT INTO refreshes (connection_id, fence, owner, attempt_id, attempt_mark, attempt_generation, "  # noqa: S608  # our own words
        f"attempted_at) VALUES ('{connection.connection_id}', 1, '{owner}', 'att_gone', {blob}, 1, "
        f"{round(on.clock() * 1000)})"
    )


async def test_a_late_answer_of_a_lost_lease_still_counts(place: VaultPlace) -> None:
    """The holder was slow and lost its lease: its good tokens are saved all the same, a failure of its would not be (R112)."""
    async with scene(place) as on:
        caller, gate = await on.under_way()
        place.run("UPDATE refreshes SET fence = fence + 1, owner = 'another'")
        gate.set()
        assert await caller == "access-1"
        assert on.row("owner, fence") == ["another", "2"]


async def test_a_failure_of_a_lost_lease_is_not_recorded(place: VaultPlace) -> None:
    """invalid_grant under a fence that is another's by now kills nothing (R112, R120)."""
    async with scene(place) as on:
        caller, gate = await on.under_way(error("invalid_grant"), asking=failure)
        place.run("UPDATE refreshes SET fence = fence + 1, owner = 'another'")
        gate.set()
        assert (await caller)[0] == "RefreshFailed"
        assert on.row("state", "connections") == ["active"]


# --- without callers ----------------------------------------------------------------------------------


async def test_idle_connections_are_refreshed_daily(sqlite: VaultPlace) -> None:
    """A connection that nobody used for a day is refreshed, a fresh one is not; catching up is slow (R126)."""
    async with scene(sqlite) as on:
        for number in range(12):
            await on.connect(number, name=f"c{number}", life=30 * 86400.0)
        await on.first.refresher.look()
        await on.first.settled()
        assert on.spent() == []
        on.clock.now += 86401
        counts = []
        for _ in range(4):
            await on.first.refresher.look()
            await on.first.settled()
            counts.append(len(on.spent()))
        assert counts == [5, 10, 12, 12]
        assert len(set(on.spent())) == 12


async def test_frozen_and_dead_connections_are_left_alone(sqlite: VaultPlace) -> None:
    """The daily refresh does not touch what may not be refreshed (R122, R126)."""
    async with scene(sqlite) as on:
        await on.connect(0, name="frozen", life=30 * 86400.0)
        await on.connect(1, name="dead", life=30 * 86400.0)
        await on.first.vault.freeze("scripted", "frozen")
        sqlite.run("UPDATE connections SET state = 'reauthorization_required' WHERE name = 'dead'")
        sqlite.run("UPDATE connections SET sequence = 100; UPDATE changes SET sequence = 100")
        await on.first.vault.catch_up()
        on.clock.now += 2 * 86400
        await on.first.refresher.look()
        await on.first.settled()
        assert on.spent() == []


async def test_a_bad_answer_body_never_shows_in_errors(sqlite: VaultPlace) -> None:
    """Nothing of what a provider says beyond its code reaches callers, events or the audit (R143)."""
    async with scene(sqlite) as on:
        await on.connect()
        on.provider.answer(body(400, {"error": "invalid_grant", "error_description": "canary spend-0"}))
        on.clock.now += LIFE
        _, text, _ = await failure(on.first)
        told = text + repr(on.first.events) + repr(await on.first.vault.audit())
        assert "canary" not in told
        assert "spend-0" not in told
