"""Any order of events around refreshes, against a provider that ends a grant when a spent token comes again."""

import asyncio
import tempfile
import urllib.parse
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.postgres import Postgres
from support.providers.scripted import Scripted
from support.refreshing import LIFE, Process, Scene, catalog_of
from support.stores import PostgresPlace, SqlitePlace, VaultPlace
from support.vaults import NOW, Clock

from proxy.connectors.model import Tokens
from proxy.connectors.oauth.answers import Grant, GrantDead, OutcomeUnknown, ProviderBusy
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.refresh.owner import this_process
from proxy.errors import RequestError
from proxy.secret import Secret

REPLIES = ("well", "busy", "revoked", "carried out, answer lost", "not carried out, answer lost")


@dataclass
class Model:
    """A provider with single-use refresh tokens: ``family`` -> the one in force, None: the grant is over."""

    clock: Clock
    in_force: dict[str, str | None] = field(default_factory=dict)
    family_of: dict[str, str] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    issued: int = 0
    reply: str = "well"
    hang: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    asking: set[str] = field(default_factory=set)
    asked: list[tuple[str, float]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    def begin(self) -> tuple[str, str]:
        """A new grant: its family and first refresh token."""
        family = f"family-{len(self.in_force)}"
        return family, self.rotate(family)

    def rotate(self, family: str) -> str:
        self.issued += 1
        token = f"refresh-{self.issued}"
        self.in_force[family] = token
        self.family_of[token] = family
        return token

    async def answer(self, token: str) -> Grant:
        """One token request, carried out or not as ``reply`` says."""
        assert token not in self.asking, "two requests with one refresh token at the same time"
        self.asking.add(token)
        self.asked.append((token, self.clock()))
        try:
            self.reached.set()
            if self.hang is not None:
                await self.hang.wait()
            return self._decide(token)
        finally:
            self.asking.discard(token)

    def _decide(self, token: str) -> Grant:
        family = self.family_of[token]
        if self.reply == "busy":
            raise ProviderBusy("later")
        if self.reply == "not carried out, answer lost":
            self.lost.add(token)
            raise OutcomeUnknown("lost")
        if self.reply == "revoked":
            self.in_force[family] = None
        if self.in_force[family] != token:
            self.in_force[family] = None  # reuse detection
            raise GrantDead("gone", code="invalid_grant")
        self.spent.add(token)
        new = self.rotate(family)
        if self.reply == "carried out, answer lost":
            self.lost.add(token)
            raise OutcomeUnknown("lost")
        now = self.clock()
        return Grant(Tokens(Secret(f"access-{self.issued}"), Secret(new), now + LIFE, now))


class Machine(RuleBasedStateMachine):
    """Rules are what can happen; ``place`` is set by the test."""

    make_place: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock(NOW)
        self.model = Model(self.clock)
        self.generations: dict[str, int] = {}
        self.family: str | None = None
        self.living_until = 0.0
        self.is_refused = False

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        place: VaultPlace = type(self).make_place(Path(self.folder.name) / "place")
        catalog = catalog_of(Scripted())
        self.scene = Scene(place, Scripted(), catalog, self.clock, Clock(1000.0))
        self.do(self._open())

    async def _open(self) -> None:
        model = self.model

        class Endpoint(TokenEndpoint):
            async def ask(self, _service: Any, outgoing: Any) -> Grant:
                form = dict(urllib.parse.parse_qsl(outgoing.body.decode()))
                return await model.answer(form["refresh_token"])

        self.endpoint = Endpoint
        self.scene.first = await self.stack.enter_async_context(self.scene.process(endpoint=Endpoint))

    @property
    def process(self) -> Process:
        return self.scene.first

    # --- what can happen ----------------------------------------------------------------------------

    @rule()
    def connect(self) -> None:
        """A person connects (again): a new grant replaces the old one."""
        family, token = self.model.begin()
        tokens = Tokens(Secret(f"first-{family}"), Secret(token), self.clock() + LIFE, self.clock())
        self.do(self.process.vault.save_connection("scripted", "main", tokens, registration="scripted"))
        self.family, self.living_until, self.is_refused = family, self.clock() + LIFE, False

    @rule(seconds=st.sampled_from((1.0, 20.0, 61.0, 901.0, LIFE - 100, LIFE + 1)))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.scene.steady.now += seconds

    @rule(reply=st.sampled_from(REPLIES))
    def the_provider_changes(self, reply: str) -> None:
        self.model.reply = reply

    @precondition(lambda self: self.family is not None)
    @rule(callers=st.integers(1, 4))
    def call(self, callers: int) -> None:
        """Callers ask for a token; whoever gets one gets one that lives."""
        got = self.do(self._calls(callers))
        for one in got:
            if isinstance(one, BaseException):
                assert isinstance(one, RequestError), repr(one)
            else:
                assert one.expires_at > self.clock()

    async def _calls(self, callers: int) -> list[Any]:
        asking = (self.process.source.obtain("scripted", None) for _ in range(callers))
        got = await asyncio.gather(*asking, return_exceptions=True)
        self.process.ready()
        await self.process.settled()
        return got

    @precondition(lambda self: self.family is not None)
    @rule()
    def the_service_refuses(self) -> None:
        self.do(self._refused())

    async def _refused(self) -> None:
        held = self.process.ready()
        if held is not None:
            self.is_refused = True
            await asyncio.gather(self.process.source.refused(held), return_exceptions=True)
            await self.process.settled()

    @rule()
    def the_schedule_turns(self) -> None:
        self.do(self._look())

    async def _look(self) -> None:
        await self.process.refresher.look()
        await self.process.settled()

    @precondition(lambda self: self.family is not None)
    @rule(carried_out=st.booleans())
    def a_process_dies_in_a_refresh(self, *, carried_out: bool) -> None:
        """Another process is killed while its request is out, which is carried out or not."""
        self.do(self._die(carried_out=carried_out))

    async def _die(self, *, carried_out: bool) -> None:
        model, gone = self.model, replace(this_process(), start=1)
        model.hang = asyncio.Event()
        model.reached.clear()
        async with self.scene.process(owner=gone, endpoint=self.endpoint) as other:
            if other.ready() is not None:
                self.clock.now += LIFE - 50
                self.scene.steady.now += LIFE - 50
            if other.ready() is None:
                caller = asyncio.create_task(other.token())
                await asyncio.wait({caller}, timeout=0.05)
                caller.cancel()
                await asyncio.gather(caller, return_exceptions=True)
            tasks = tuple(other.refresher._tasks.values())
            if tasks:
                await asyncio.wait(
                    (asyncio.create_task(model.reached.wait()), *tasks), return_when=asyncio.FIRST_COMPLETED
                )
            for token in tuple(model.asking):
                model.lost.add(token)
                if carried_out and model.in_force[model.family_of[token]] == token:
                    model.spent.add(token)
                    model.rotate(model.family_of[token])
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        model.hang = None

    @precondition(lambda self: self.family is not None)
    @rule()
    def removed(self) -> None:
        self.do(self.process.vault.remove("scripted", "main"))
        self.family = None
        self.generations.clear()

    @precondition(lambda self: self.family is not None)
    @rule()
    def frozen_and_thawed(self) -> None:
        """While it is frozen nothing is asked for, whatever happens."""
        self.do(self._freeze())

    async def _freeze(self) -> None:
        vault = self.process.vault
        if vault.connections()[0].state != "active":
            return
        await vault.freeze("scripted", "main")
        before = len(self.model.asked)
        await self._calls(2)
        await self._look()
        assert len(self.model.asked) == before
        await vault.freeze("scripted", "main", frozen=False)

    @precondition(lambda self: self.family is not None)
    @rule()
    def copied(self) -> None:
        """A copy that is used asks the provider for nothing."""
        self.do(self._copy())

    async def _copy(self) -> None:
        if self.scene.place.kind != "sqlite":
            return  # a dump takes too long to be made here; see test_copies
        folder = Path(tempfile.mkdtemp(dir=self.folder.name)) / "copy"
        scene = Scene(
            self.scene.place.copied(folder), Scripted(), self.scene.catalog, self.clock, self.scene.steady
        )
        before = len(self.model.asked)
        async with scene.process(endpoint=self.endpoint) as copy:
            await asyncio.gather(copy.token(), return_exceptions=True)
            await copy.refresher.look()
            await copy.settled()
        assert len(self.model.asked) == before

    # --- what always holds --------------------------------------------------------------------------

    @invariant()
    def generations_only_grow(self) -> None:
        if not hasattr(self, "scene"):
            return
        for one in self.process.vault.connections():
            assert one.generation >= self.generations.get(one.connection_id, 0)
            self.generations[one.connection_id] = one.generation

    @invariant()
    def what_the_provider_gave_is_kept(self) -> None:
        """The stored refresh token is the one in force, unless the answer that brought it was lost on the way."""
        for held in self.process.vault.snapshot.held.values() if hasattr(self, "scene") else ():
            assert held.tokens is not None
            assert held.tokens.refresh_token is not None
            stored = held.tokens.refresh_token.reveal()
            assert stored not in self.model.spent or stored in self.model.lost

    @invariant()
    def only_a_dead_grant_is_declared_dead(self) -> None:
        for one in self.process.vault.connections() if hasattr(self, "scene") else ():
            if one.state == "reauthorization_required":
                assert self.family is not None
                assert self.model.in_force[self.family] is None

    @invariant()
    def a_lost_answer_is_not_followed_by_a_blind_try(self) -> None:
        """With a token whose answer was lost nobody asks again while the access token lives and was not refused."""
        times: dict[str, list[float]] = {}
        for token, when in self.model.asked:
            times.setdefault(token, []).append(when)
        for token in self.model.lost:
            if not self.is_refused and self.family == self.model.family_of[token] and len(times[token]) > 1:
                assert self._ended_before(times[token][-1])

    def _ended_before(self, when: float) -> bool:
        held = next(iter(self.process.vault.snapshot.held.values()), None)
        if held is None or held.connection.issued_at is None:
            return True
        return held.connection.issued_at >= when or (held.connection.expires_at or 0.0) - 1.0 <= when

    def teardown(self) -> None:
        self.do(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()


def _run(machine: type[Machine], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            print_blob=False,
        ),
    )


def test_any_order_of_events_on_sqlite() -> None:
    """No token is asked for twice at once, spent blindly or lost; only a dead grant is declared dead (R110-R132)."""

    class OnSqlite(Machine):
        make_place = SqlitePlace

    _run(OnSqlite, 12, 20)


def test_any_order_of_events_on_postgresql(postgres: Postgres) -> None:
    """The same on PostgreSQL."""

    class OnPostgres(Machine):
        @staticmethod
        def make_place(folder: Path) -> VaultPlace:
            return PostgresPlace(postgres.database(), folder)

    _run(OnPostgres, 4, 15)


@pytest.mark.parametrize("reply", REPLIES)
def test_the_model_ends_a_grant_whose_spent_token_comes_again(reply: str) -> None:
    """The provider that the machine plays against does what the real ones do."""
    model = Model(Clock(NOW), reply=reply)
    family, token = model.begin()

    async def twice() -> None:
        for _ in range(2):
            try:
                await model.answer(token)
            except (GrantDead, OutcomeUnknown, ProviderBusy):
                continue

    asyncio.run(twice())
    is_carried_out = reply in {"well", "revoked", "carried out, answer lost"}
    assert (model.in_force[family] is None) == is_carried_out
