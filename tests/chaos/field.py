"""One vault, one provider behind a relay, and processes to be killed; what has to be true after each round."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.grounds import Ground, PostgresGround, SqliteGround
from support.instances import DiedError, Instance, Instances
from support.postgres import Postgres
from support.providers.real import Provider
from support.providers.toolkit import Toolkit
from support.toxic import Relay
from tally import Tally

GRACE_S = 60
INTERRUPTED = "refresh_interrupted"


@dataclass(slots=True)
class Acknowledged:
    """What was told to be done, and so has to be there for ever."""

    generation: int = 0
    names: dict[str, bool] = field(default_factory=dict)  # connection -> is there
    keys: dict[str, bool] = field(default_factory=dict)  # key id -> is in force
    unsure: set[str] = field(default_factory=set)  # names and ids whose last order was not answered


@dataclass(slots=True)
class Field:
    """See the module. ``where`` names ground and provider in the tables: with a grace time, or strict."""

    ground: Ground
    provider: Provider
    relay: Relay
    instances: Instances
    tally: Tally
    chance: random.Random
    lenient: bool
    victim: Instance | None = None
    kept: Acknowledged = field(default_factory=Acknowledged)
    newest_refresh_token: str = ""
    last_grant: Mapping[str, Any] = field(default_factory=dict)
    serial: int = 0
    is_outage: bool = False  # writes may be refused: what they come to is then unsure

    @property
    def where(self) -> str:
        return f"{self.ground.name}, {'grace' if self.lenient else 'strict'}"

    def lose(self, what: str) -> None:
        self.tally.lose(self.where, what)

    # --- processes --------------------------------------------------------------------------------------

    async def process(self) -> Instance:
        """The one that lives, or a new one."""
        if self.victim is None:
            self.victim = await self.instances.start(self.ground.config, self.ground.data_dir)
        return self.victim

    async def kill(self) -> None:
        """SIGKILL to the process."""
        if self.victim is not None:
            one, self.victim = self.victim, None
            await one.kill()

    # --- orders -----------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """A person connects ``main`` (anew); acknowledged when it returns."""
        grant = await asyncio.to_thread(self.provider.issue_grant)
        answer = await (await self.process()).ask("save", **saving("main", grant))
        self.last_grant = grant
        self.kept.generation = answer["generation"]
        self.tally.acknowledged += 1

    async def order(self, op: str, subject: str, *, is_there: bool, **fields: Any) -> None:
        """One write that may be cut off by a kill, or refused in an outage; noted when acknowledged."""
        kept = self.kept.keys if "key" in op else self.kept.names
        self.kept.unsure.add(subject)
        try:
            answer = await (await self.process()).ask(op, **fields)
        except DiedError:
            return
        if "error" in answer:
            if not self.is_outage:
                self.lose(f"{op} {subject} was refused: {answer}")
            return
        kept[answer.get("key_id", subject)] = is_there
        self.kept.unsure.discard(subject)
        self.tally.acknowledged += 1

    async def rotate(self) -> None:
        """Everything is sealed anew under another data key."""
        with contextlib.suppress(DiedError):
            answer = await (await self.process()).ask("rotate")
            if "error" in answer and not self.is_outage:
                self.lose(f"rotation was refused: {answer}")
            self.tally.acknowledged += "error" not in answer

    def acknowledge(self, answer: Mapping[str, Any] | None) -> None:
        """A caller has got a token, so it is committed."""
        if answer is not None and answer["generation"] is not None:
            self.kept.generation = max(self.kept.generation, answer["generation"])
            self.tally.acknowledged += 1

    async def call(self, callers: int = 8) -> dict[str, Any] | None:
        """``get_connection`` by several at once; None when the process died meanwhile."""
        try:
            answer = await (await self.process()).ask("get", callers=callers, look=True)
        except DiedError:
            return None
        self.tally.calls += callers
        if "error" in answer:  # the look before the calls
            return {"tokens": {}, "errors": {f"{answer['error']}: {answer['detail']}": 1}, "generation": None}
        return answer

    # --- what has to be true ----------------------------------------------------------------------------

    async def check_kept(self) -> None:
        """Every acknowledged write is there, the database is whole, every row opens."""
        state = await self.ground.integrity()
        if state != "ok":
            self.lose(f"integrity: {state}")
        process = await self.process()
        told = await process.ask("connections")
        keys = await process.ask("keys")
        self._compare("connection", self.kept.names, dict.fromkeys(told, True))
        self._compare("key", self.kept.keys, keys)
        for name, one in told.items():
            if one["cause"] == "damaged":
                self.lose(f"connection {name} does not open")
        self.kept.unsure.clear()
        if told["main"]["generation"] < self.kept.generation:
            self.lose(
                f"main went back from generation {self.kept.generation} to {told['main']['generation']}"
            )

    def _compare(self, kind: str, kept: dict[str, bool], found: Mapping[str, bool]) -> None:
        for name, was_there in tuple(kept.items()):
            kept[name] = found.get(name, False)
            if name not in self.kept.unsure and kept[name] != was_there:
                self.lose(f"{kind} {name} is {'gone' if was_there else 'back'}")

    async def settle(self, *, may_die: bool, requests_before: int) -> str:
        """Calls go on, or the connection says honestly why not; then it is connected anew.

        Args:
            may_die: the provider is strict and may have carried a request out whose answer nobody got.
            requests_before: token requests that had arrived when the process was killed.
        """
        answer = await self.call()
        assert answer is not None, "nobody kills here"
        row = await self.ground.connection()
        asked = await asyncio.to_thread(self.provider.token_requests) - requests_before
        if answer["tokens"]:
            return await self._alive(answer, row, asked)
        if row["state"] == "reauthorization_required" and row["cause"] == INTERRUPTED:
            return await self._interrupted(row, asked, may_die=may_die)
        self.lose(f"calls fail: {answer['errors']}, {dict(row)}, {asked} token requests")
        await self.connect()
        return "failed"

    async def _alive(self, answer: Mapping[str, Any], row: Mapping[str, Any], asked: int) -> str:
        token = next(iter(answer["tokens"]))
        if len(answer["tokens"]) > 1 or answer["errors"]:
            self.lose(f"{len(answer['tokens'])} different tokens, errors {answer['errors']}")
        if not await asyncio.to_thread(self.provider.accepts, token):
            self.lose("the provider refuses the token that was handed out")
        if asked > 1:
            self.lose(f"{asked} token requests where one is allowed")
        if row["state"] != "active":
            self.lose(f"a token was handed out of a connection that is {row['state']}")
        self.kept.generation = row["generation"]
        return "active"

    async def _interrupted(self, row: Mapping[str, Any], asked: int, *, may_die: bool) -> str:
        if self.lenient or not may_die:
            self.lose(f"needs a person without need: {dict(row)}")
        if asked > 1:
            self.lose(f"{asked} attempts with a spent token where one is allowed")
        again = await self.call()
        later = await asyncio.to_thread(self.provider.token_requests)
        await self.call()
        if again is None or again["tokens"] or await asyncio.to_thread(self.provider.token_requests) != later:
            self.lose(f"a dead connection goes on asking: {again}")
        await self.connect()
        return "interrupted"


def saving(name: str, grant: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the order to store a grant."""
    return {
        "name": name,
        "access": grant["access_token"],
        "refresh": grant["refresh_token"],
        "expires_in": 3600,
    }


@contextlib.asynccontextmanager
async def fields(
    folder: Path, tally: Tally, chance: random.Random, settings: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[tuple[list[Field], Postgres]]:
    """Both grounds, each with the provider at its strictest and with a grace time; a connection in each."""
    async with contextlib.AsyncExitStack() as stack:
        instances = await stack.enter_async_context(Instances(folder / "instances").running())
        server = stack.enter_context(Postgres())
        made: list[Field] = []
        for lenient in (False, True):
            provider = stack.enter_context(Toolkit(folder / f"provider-{lenient}"))
            provider.adjust(grace_s=GRACE_S if lenient else 0)
            relay = await stack.enter_async_context(Relay(provider.address).running())
            for ground in (
                SqliteGround(folder / f"sqlite-{lenient}"),
                PostgresGround(folder / f"postgres-{lenient}", server.database()),
            ):
                grace = {"refresh_grace_s": GRACE_S} if lenient else {}
                ground.configure(
                    provider, endpoint=f"http://127.0.0.1:{relay.port}", settings=settings, **grace
                )
                one = Field(ground, provider, relay, instances, tally, chance, lenient)
                await one.connect()
                made.append(one)
        yield made, server
        for one in made:
            await one.kill()


def lap(begun: float) -> float:
    """Seconds since."""
    return time.monotonic() - begun
