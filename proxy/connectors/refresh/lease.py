"""The lease on a connection's refresh, and who may claim it. Pure: all times are parameters (epoch seconds).

A lease has no end by the clock. Its holder counts ``beat`` up every ``BEAT_S``; whoever has seen the same
(fence, beat) for ``STALE_S`` of its own monotonic clock, or can prove the holder dead, takes it over.
"""

from dataclasses import dataclass, field
from typing import Literal

from proxy.connectors.lifetimes import EXPIRY_S
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.refresh.ways import Way
from proxy.connectors.store import Row

BEAT_S = 3.0
STALE_S = 20.0  # longer than a token request may take (15 s), so that its holder has an answer or has ended
FORCED_S = 60.0  # a connection's refused tokens make at most one refresh in this time (R127)
FIRST_WAIT_S, LAST_WAIT_S = 30.0, 900.0
_ROUNDING_S = 0.001  # times in the store are whole milliseconds
LONGEST_WAIT_S = 3600.0  # of a Retry-After; a wait that seems longer comes from a clock that jumped (R125)

Failure = Literal["dead", "application_fault", "busy", "not_sent", "unknown"]
Unfit = Literal["removed", "frozen", "dead", "copy", "damaged", "nothing"]


@dataclass(frozen=True, slots=True)
class Intent:
    """An attempt that was begun and has no known end (R116). ``mark``: fingerprint of the grant it spends.

    ``unknowns``: how many attempts with that grant ended so before it; ``at``: when the first one began.
    """

    attempt_id: str
    mark: bytes
    generation: int
    at: float
    unknowns: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A connection's row of ``refreshes``; ``fence`` 0: it never was refreshed.

    ``refused_app``: fingerprint of the registration that the provider refused at the last attempt.
    """

    fence: int = 0
    owner: str | None = None
    beat: int = 0
    intent: Intent | None = None
    failures: int = 0
    retry_at: float | None = None
    last_error: str | None = None
    refused_app: str | None = None
    forced_at: float | None = None
    refreshed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a claim finds, all of it from one transaction. ``tokens`` None: they do not open."""

    connection: Connection
    tokens: Tokens | None
    way: Way | None
    mark: bytes
    lease: Lease
    is_copy: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A claim. ``generation``: the one to replace; ``takeover``: (fence, beat) of a holder that is gone.

    ``app``: fingerprint of the registration to be used. ``searched``: the journal was searched for answers of
    attempts up to this fence.
    """

    generation: int
    forced: bool = False
    takeover: tuple[int, int] | None = None
    app: str = ""
    searched: int | None = None


# --- verdicts -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Newer:
    """Someone has refreshed or connected again."""

    generation: int


@dataclass(frozen=True, slots=True)
class Unusable:
    """Nothing may be refreshed here, whoever asks."""

    reason: Unfit
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class NotBefore:
    """The last attempt failed; not before ``retry_at``. ``error``: what it failed with."""

    retry_at: float
    error: str | None


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Another process is at it."""

    owner: str
    fence: int
    beat: int


@dataclass(frozen=True, slots=True)
class Unsearched:
    """An earlier attempt with this grant has no known end, and its answer may lie in the journal (R118).

    The journal is searched for the refresh of ``generation``, then the claim made again with ``fence``.
    """

    fence: int
    generation: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An earlier attempt with this grant has no known end, so a second one might end the grant.

    The living access token is used until ``until`` first (R117); None: until the service refuses it.
    """

    intent: Intent
    until: float | None


@dataclass(frozen=True, slots=True)
class ForcedLately:
    """A refused token made a refresh a short while ago; the next may at ``until``."""

    until: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """The right to one attempt, and all it needs. ``unknowns``: attempts with this grant of unknown end.

    ``twins``: other connections with the same grant (R129), as ``service@name``. ``row``: as it was found.
    """

    fence: int
    attempt_id: str
    connection: Connection
    tokens: Tokens = field(repr=False)
    way: Way
    unknowns: int
    failures: int
    begun_at: float
    forced: bool = False
    app: str = ""
    twins: tuple[str, ...] = ()
    row: Row = field(default_factory=dict, repr=False)


Refusal = Newer | Unusable | NotBefore | HeldBy | Unsearched | Interrupted | ForcedLately
Verdict = Refusal | Claimed


# --- decisions ----------------------------------------------------------------------------------------


def is_taken_over(standing: Standing, wanted: Wanted) -> bool:
    """The claim ends the lease of a holder that is gone."""
    lease = standing.lease
    return lease.owner is not None and wanted.takeover == (lease.fence, lease.beat)


def open_intent(standing: Standing, wanted: Wanted) -> Intent | None:
    """The earlier attempt with this very grant whose end nobody knows."""
    lease, intent = standing.lease, standing.lease.intent
    if intent is None or intent.mark != standing.mark or intent.generation != standing.connection.generation:
        return None
    if lease.owner is not None and not is_taken_over(standing, wanted):
        return None  # it is under way
    return intent


def judge(standing: Standing, wanted: Wanted, now: float) -> Refusal | None:
    """Why not to refresh, or None: then the lease is the asker's."""
    lease, connection = standing.lease, standing.connection
    unfit = _unfit(standing)
    if unfit is not None:
        return unfit
    if connection.generation > wanted.generation:
        return Newer(connection.generation)
    if lease.owner is not None and not is_taken_over(standing, wanted):
        return HeldBy(lease.owner, lease.fence, lease.beat)
    if open_intent(standing, wanted) is not None and wanted.searched != lease.fence:
        return Unsearched(lease.fence, connection.generation)
    return _not_yet(standing, wanted, now)


def _not_yet(standing: Standing, wanted: Wanted, now: float) -> NotBefore | ForcedLately | Interrupted | None:
    lease, connection = standing.lease, standing.connection
    is_mended = lease.refused_app is not None and lease.refused_app != wanted.app
    if lease.retry_at is not None and not is_mended and 0 < lease.retry_at - now <= LONGEST_WAIT_S:
        return NotBefore(lease.retry_at, lease.last_error)
    if wanted.forced and lease.forced_at is not None and abs(now - lease.forced_at) < FORCED_S:
        return ForcedLately(lease.forced_at + FORCED_S)
    intent = open_intent(standing, wanted)
    if intent is not None and not wanted.forced and not may_repeat(standing, intent, now):
        return Interrupted(intent, _end(connection))
    return None


def _unfit(standing: Standing) -> Unusable | None:
    connection = standing.connection
    if standing.tokens is None:
        return Unusable("damaged", connection.cause)
    if connection.state == "frozen":
        return Unusable("frozen", connection.cause)
    if connection.state != "active":
        return Unusable("dead", connection.cause)
    if standing.is_copy:
        return Unusable("copy")
    return Unusable("nothing") if standing.way is None else None


def _end(connection: Connection) -> float | None:
    return None if connection.expires_at is None else connection.expires_at - EXPIRY_S


def may_repeat(standing: Standing, intent: Intent, now: float) -> bool:
    """Asking again with a grant that may be spent: harmless, in its grace time, or all that is left."""
    way = standing.way
    if way is None or way.repeatable:
        return way is not None
    end = _end(standing.connection)
    return is_in_grace(way, intent.at, now) or (end is not None and now >= end)


def is_in_grace(way: Way, begun_at: float, now: float) -> bool:
    """A grant spent at ``begun_at`` still works, by what the service's file knows."""
    return way.grace_s > 0 and -_ROUNDING_S <= now - begun_at <= way.grace_s


def wait_after(failures: int, spread: float) -> float:
    """Seconds to wait after that many failures in a row: 30, doubling to 900, and up to a quarter (R122)."""
    return float(min(FIRST_WAIT_S * 2 ** min(failures - 1, 10), LAST_WAIT_S)) * (1 + spread / 4)


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a failure leaves in the row; ``keeps_intent``: its end, or an earlier attempt's, is unknown."""

    unknowns: int
    failures: int
    retry_at: float | None
    keeps_intent: bool


def after(
    claimed: Claimed, failure: Failure, now: float, *, retry_after: float | None, spread: float
) -> Aftermath:
    """What follows from a failure that leaves the connection as it is."""
    unknowns, failures = claimed.unknowns, claimed.failures + 1
    wait = max(wait_after(failures, spread), retry_after or 0.0)
    if failure == "application_fault":
        wait = LAST_WAIT_S
    if failure == "unknown":
        unknowns += 1
        in_grace = is_in_grace(claimed.way, claimed.begun_at, now)
        if unknowns == 1 and in_grace and not claimed.way.repeatable:
            wait = 0.0  # once more, at once: the spent token still works
    retry_at = now + min(wait, LONGEST_WAIT_S) if wait else None
    return Aftermath(unknowns, failures, retry_at, keeps_intent=unknowns > 0)
