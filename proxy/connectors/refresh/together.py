"""Steps of many refreshes in one commit: while one group is written, the next one gathers.

A step reads, decides without I/O, and writes; those of a group do each of the three together. Durability is
as of a commit each: nobody is told of a step before the commit that holds it.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from proxy.connectors import audit
from proxy.connectors.seal import Keyring
from proxy.connectors.store import NEXT_SEQUENCE, Asked, Row
from proxy.connectors.vault import Vault
from proxy.errors import StoreError

MOST = 64  # steps in one commit: a few milliseconds in which other writers wait
_ACTIVE = "SELECT key_id FROM data_keys WHERE is_active = 1"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Moment:
    """Under what a group decides: the time (epoch seconds), the change's number, the keys to seal with."""

    now: float
    sequence: int
    ring: Keyring


@dataclass(frozen=True, slots=True)
class Decided(Generic[_T]):
    """What a step comes to, what it writes, in this order, and what the audit tells of it."""

    result: _T
    writes: tuple[Asked, ...] = ()
    notes: tuple[audit.Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Step(Generic[_T]):
    """One step of one connection's refresh.

    ``asks``: statements whose rows ``decide`` gets, in that order; ``decide`` does no I/O. ``announces``: it
    may change the connection, so it takes the number of a change.
    """

    connection_id: str
    asks: tuple[Asked, ...]
    decide: Callable[[Sequence[Sequence[Row]], Moment], Decided[_T]]
    announces: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    step: Step[Any]
    outcome: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Together:
    """See the module.

    Args:
        vault: whose store it is.
        clock: seconds since the epoch.
    """

    def __init__(self, vault: Vault, clock: Callable[[], float]) -> None:
        self._vault = vault
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._running: asyncio.Task[None] | None = None

    async def do(self, step: Step[_T]) -> _T:
        """Take a step; it is committed when this returns, and a change is in the vault's snapshot.

        Whoever is cancelled meanwhile does not hear of it, and it may be committed all the same.

        Raises:
            StoreError: it is not known to be committed.
        """
        waiting = _Waiting(step)
        self._waiting.append(waiting)
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(
                self._run(), name="refreshes together", context=contextvars.Context()
            )
        result: _T = await waiting.outcome
        return result

    async def settled(self) -> None:
        """Until nothing is being written."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # those who are about to come may come along
                await self._carry(self._taken())
        finally:
            self._running = None
            for left in self._waiting:  # only where the loop itself is ended
                left.outcome.cancel()

    def _taken(self) -> Sequence[_Waiting]:
        """The next group: at most one step of a connection, for each sees what was before the group."""
        group: dict[str, _Waiting] = {}
        for one in tuple(self._waiting):
            if len(group) == MOST:
                break
            if one.step.connection_id not in group:
                group[one.step.connection_id] = one
                self._waiting.remove(one)
        return tuple(one for one in group.values() if not one.outcome.done())

    async def _carry(self, group: Sequence[_Waiting]) -> None:
        if not group:
            return
        try:
            decided = await self._committed([one.step for one in group])
        except StoreError as error:
            if error.reason == "conflict" and len(group) > 1:  # one contradicts what is stored: not all do
                for one in group:
                    await self._carry([one])
                return
            decided = [error] * len(group)
        except Exception as error:  # noqa: BLE001  # told to those who wait
            decided = [error] * len(group)
        for one, result in zip(group, decided, strict=True):
            if one.outcome.done():
                continue
            if isinstance(result, Exception):
                one.outcome.set_exception(result)
            else:
                one.outcome.set_result(result.result)

    async def _committed(self, steps: Sequence[Step[Any]]) -> "list[Decided[Any] | Exception]":
        vault, announces = self._vault, any(step.announces for step in steps)
        async with vault.store.transaction() as transaction:
            first: tuple[Asked, ...] = ((_ACTIVE,), (NEXT_SEQUENCE,)) if announces else ((_ACTIVE,),)
            active, *rest = await transaction.fetch_each(
                *first, *(ask for step in steps for ask in step.asks)
            )
            ring = vault.data_keys.ring
            if announces and [row["key_id"] for row in active] != [ring.active]:
                ring = await vault.data_keys.current(transaction)
            sequence = int(rest.pop(0)[0]["sequence"]) if announces else 0
            moment = Moment(self._clock(), sequence, ring)
            decided = [_decided(step, [rest.pop(0) for _ in step.asks], moment) for step in steps]
            told = [one for one in decided if isinstance(one, Decided)]
            await transaction.execute_each(*(write for one in told for write in one.writes))
            notes = [note for one in told for note in one.notes]
            await vault.audit_log.record_each(transaction, moment.now, notes)
        if announces:
            await vault.take_in(sequence)
        return decided


def _decided(step: Step[Any], rows: Sequence[Sequence[Row]], moment: Moment) -> "Decided[Any] | Exception":
    """A row that cannot be made sense of fails its own step only."""
    try:
        return step.decide(rows, moment)
    except Exception as error:  # noqa: BLE001  # told to the one who waits
        return error
