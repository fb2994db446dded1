"""One refresh, from claim to commit. Runs in a task of its own; callers only wait for its result (R115)."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.catalog.model import Catalog, Service
from proxy.connectors.causes import INTERRUPTED, INVALID_GRANT
from proxy.connectors.model import Connection
from proxy.connectors.oauth.answers import Grant
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.faults import (
    ApplicationFault,
    GrantDead,
    NotSent,
    OutcomeUnknown,
    ProviderBusy,
    TokenFault,
)
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.refresh.events import Flag, Outcome, RefreshEvent
from proxy.connectors.refresh.gates import Gates
from proxy.connectors.refresh.lease import (
    BEAT_S,
    STALE_S,
    Claimed,
    Failure,
    ForcedLately,
    HeldBy,
    Interrupted,
    Newer,
    NotBefore,
    Refusal,
    Unsearched,
    Unusable,
    Wanted,
)
from proxy.connectors.refresh.ledger import Ledger
from proxy.connectors.refresh.owner import Owner, is_dead, parse_owner
from proxy.connectors.refresh.results import Fresh, Later, Lost, Result
from proxy.connectors.refresh.settlement import Discarded, Settlement
from proxy.connectors.refresh.ways import request_of
from proxy.connectors.seal import SealBrokenError
from proxy.errors import RequestError, StateError, StoreError

_FIRST_LOOK_S, _LAST_LOOK_S = 0.01, 0.25
_FAILURES: tuple[tuple[type[TokenFault], Failure], ...] = (
    (GrantDead, "dead"),
    (ApplicationFault, "application_fault"),
    (ProviderBusy, "busy"),
    (NotSent, "not_sent"),
    (OutcomeUnknown, "unknown"),
)


@dataclass(frozen=True, slots=True)
class Means:
    """What a refresh works with. ``keep`` takes a grant that the store does not; ``report`` gets events.

    ``orphaned`` takes one whose connection was removed meanwhile. ``recall`` saves what the journal holds for
    a generation of a connection.
    """

    ledger: Ledger
    settlement: Settlement
    registrations: Registrations
    endpoint: TokenEndpoint
    catalog: Callable[[], Catalog]
    gates: Gates
    owner: Owner
    clock: Callable[[], float]
    keep: Callable[[Claimed, Grant], None]
    keep_now: Callable[[Claimed, Grant], None]
    orphaned: Callable[[Claimed, Grant], None]
    recall: Callable[[str, int], Awaitable[None]]
    report: Callable[[RefreshEvent], None]
    monotonic: Callable[[], float] = time.monotonic


class Renewal:
    """The refresh of one generation of a connection."""

    def __init__(self, means: Means, connection: Connection, *, forced: bool) -> None:
        self._means = means
        self._connection = connection
        self._forced = forced
        self._asked_at: float | None = None

    async def run(self) -> Result:
        """Until there is a newer token, or it is known why there is none. At most one request (R122)."""
        means, connection = self._means, self._connection
        service = means.catalog().get(connection.service)
        if service is None:
            return Lost("nothing")
        try:
            registration = await means.registrations.find(service, connection.registration)
        except (StoreError, StateError, SealBrokenError) as error:
            return self._store_failed(error)
        if registration is None:
            self._report("application_fault", cause="registration_missing")
            family = service.type_id if service.oauth is None else service.oauth.family
            return Later(
                f"no app is registered for {service.title}: 'connector-proxy registrations set {family}'",
                means.clock() + 5.0,
            )
        try:
            return await self._claimed(service, registration)
        except (StoreError, StateError) as error:
            return self._store_failed(error)

    async def _claimed(self, service: Service, registration: Registration) -> Result:
        means, connection_id = self._means, self._connection.connection_id
        takeover: tuple[int, int] | None = None
        searched: int | None = None
        app = means.ledger.mark_of(registration)
        while True:
            wanted = Wanted(self._connection.generation, self._forced, takeover, app, searched)
            async with means.gates.place(service.type_id, connection_id):
                verdict = await means.ledger.claim(connection_id, wanted)
                if isinstance(verdict, Claimed):
                    return await self._attempt(verdict, service, registration)
            match verdict:
                case HeldBy():
                    takeover = await self._watch(verdict)
                case Unsearched(fence, generation):
                    await means.recall(connection_id, generation)
                    searched = fence
                case _:
                    return self._refused(verdict, service)

    def _store_failed(self, error: Exception) -> Later:
        self._report("store_failed", cause=type(error).__name__)
        return Later(
            "the vault cannot be written for now, so nothing is refreshed", self._means.clock() + 1.0
        )

    def _refused(self, verdict: Refusal, service: Service) -> Result:
        match verdict:
            case Newer():
                return Fresh()
            case Unusable(reason, cause):
                return Lost(reason, cause)
            case NotBefore(retry_at, error):
                return Later(f"{service.title} gives no new token for now ({error})", retry_at)
            case Interrupted(_, until):
                return Later(
                    f"an earlier refresh at {service.title} was interrupted: the token is used to its end",
                    until,
                    unless_forced=True,
                )
            case ForcedLately(until):
                return Later("the token was replaced a short while ago", until, only_forced=True)
            case HeldBy() | Unsearched():
                raise AssertionError("not final: the claim is made again")

    # --- another's lease --------------------------------------------------------------------------------

    async def _watch(self, held: HeldBy) -> tuple[int, int] | None:
        """Wait while another process is at it; what to take over once it is known to be gone."""
        means = self._means
        owner = parse_owner(held.owner)
        seen, since, pause = (held.fence, held.beat), means.monotonic(), _FIRST_LOOK_S
        while True:
            if owner is not None and is_dead(owner, means.owner):
                return seen
            if means.monotonic() - since >= STALE_S:
                return seen
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LAST_LOOK_S)
            holder = await means.ledger.look(self._connection.connection_id)
            if holder is None or holder.owner is None or holder.fence != held.fence:
                return None
            if holder.generation > self._connection.generation:
                return None
            if holder.beat != seen[1]:
                seen, since = (holder.fence, holder.beat), means.monotonic()

    # --- the attempt ------------------------------------------------------------------------------------

    async def _attempt(self, claimed: Claimed, service: Service, registration: Registration) -> Result:
        beating = asyncio.create_task(self._beat(claimed), name="refresh heartbeat")
        try:
            return await self._ask(claimed, service, registration)
        finally:
            beating.cancel()

    async def _beat(self, claimed: Claimed) -> None:
        is_ours = True
        while is_ours:
            await asyncio.sleep(BEAT_S)
            with contextlib.suppress(StoreError):
                is_ours = await self._means.ledger.beat(claimed)

    async def _ask(self, claimed: Claimed, service: Service, registration: Registration) -> Result:
        try:
            outgoing = request_of(claimed.way, service, registration, claimed.connection, claimed.tokens)
        except RequestError as error:
            fault = ApplicationFault(error.detail, code="request_impossible")
            return await self._failed(claimed, fault, service)
        self._asked_at = self._means.monotonic()
        try:
            grant = await self._means.endpoint.ask(service, outgoing)
        except TokenFault as fault:
            return await self._failed(claimed, fault, service)
        except Exception as error:
            told = OutcomeUnknown(f"the token request failed here ({type(error).__name__})")
            await self._failed(claimed, told, service)
            raise
        return await self._answered(claimed, grant)

    async def _answered(self, claimed: Claimed, grant: Grant) -> Result:
        """Between the last byte and the commit is only the sealing, and on no way a grant is forgotten."""
        means = self._means
        try:
            outcome = await means.settlement.save(claimed, grant)
        except asyncio.CancelledError:
            means.keep_now(claimed, grant)
            raise
        except (StoreError, StateError):
            means.keep(claimed, grant)
            self._report("refreshed_unsaved")
            return Fresh()
        except Exception:
            means.keep(claimed, grant)
            raise
        if isinstance(outcome, Discarded):
            if outcome.is_orphan:
                means.orphaned(claimed, grant)
            self._report("discarded")
            return Fresh()  # whatever is there now is not what was to be replaced
        self._report("refreshed", flags=outcome.flags)
        return Fresh()

    async def _failed(self, claimed: Claimed, fault: TokenFault, service: Service) -> Result:
        failure = next(name for kind, name in _FAILURES if isinstance(fault, kind))
        error = fault.code or failure
        if failure == "dead":
            return await self._dead(claimed, INTERRUPTED if claimed.unknowns else fault.code or INVALID_GRANT)
        try:
            retry_at = await self._means.settlement.fail(
                claimed,
                failure,
                error,
                retry_after=fault.retry_after,
                spread=random.random(),  # noqa: S311  # jitter
            )
        except (StoreError, StateError):
            self._means.ledger.over(claimed, unknown=failure == "unknown")
            retry_at = self._means.clock() + 30.0
        self._report(failure, cause=error)
        again = retry_at is None
        return Later(_sentence(failure, fault, service), retry_at or self._means.clock(), again=again)

    async def _dead(self, claimed: Claimed, cause: str) -> Result:
        try:
            was_ours = await self._means.settlement.bury(claimed, cause)
        except (StoreError, StateError):
            self._means.ledger.over(claimed, unknown=bool(claimed.unknowns))
            self._report("dead", cause=cause)
            return Lost("dead", cause)
        if not was_ours:
            self._report("discarded", cause=cause)
            return Fresh()
        self._report("dead", cause=cause)
        return Lost("dead", cause)

    def _report(self, outcome: Outcome, *, cause: str | None = None, flags: tuple[Flag, ...] = ()) -> None:
        asked_at, connection = self._asked_at, self._connection
        self._means.report(
            RefreshEvent(
                service=connection.service,
                connection=connection.name,
                connection_id=connection.connection_id,
                outcome=outcome,
                cause=cause,
                duration=0.0 if asked_at is None else self._means.monotonic() - asked_at,
                generation=connection.generation,
                flags=flags,
                forced=self._forced,
            )
        )


def _sentence(failure: Failure, fault: TokenFault, service: Service) -> str:
    if failure == "application_fault":
        return (
            f"{service.title} refuses the registered app, so the token cannot be renewed: {fault.detail}. "
            "An operator has to mend the registration ('connector-proxy registrations set')"
        )
    return fault.detail
