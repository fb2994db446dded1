"""What a refresh came to, for metrics, log and notices."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal[
    "refreshed",  # a new token is committed
    "refreshed_unsaved",  # a new token is in memory (and journal), the store does not take it yet
    "saved_late",  # such a token has been committed now
    "discarded",  # the connection was removed or connected again meanwhile
    "dead",  # the grant is gone: a person is needed
    "application_fault",  # the app's registration is refused: an operator is needed
    "busy",  # the provider says later
    "not_sent",  # the provider was not reached
    "unknown",  # nobody knows whether the provider carried it out
    "interrupted",  # an attempt of a process that ended was found
    "store_failed",  # the vault could not be written, so nothing was asked for
]
Flag = Literal["account_changed", "scopes_reduced", "shared_grant", "config_refused"]
OUTCOMES: tuple[Outcome, ...] = (
    "refreshed", "refreshed_unsaved", "saved_late", "discarded", "dead", "application_fault", "busy",
    "not_sent", "unknown", "interrupted", "store_failed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RefreshEvent:
    """One outcome.

    Args:
        service, connection: type id and name.
        connection_id: the connection's id.
        outcome: see ``Outcome``.
        cause: a provider's error code or our own, safe to show; None after a success.
        duration: seconds of the request to the provider, 0 where there was none.
        generation: of the connection's tokens before the refresh.
        flags: what the answer was conspicuous for (R128, R129).
        forced: asked for because the service had refused the token.
    """

    service: str
    connection: str
    connection_id: str
    outcome: Outcome
    cause: str | None = None
    duration: float = 0.0
    generation: int = 0
    flags: tuple[Flag, ...] = ()
    forced: bool = False
