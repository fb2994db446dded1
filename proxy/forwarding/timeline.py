"""When what happened to a request on its way to the service and back."""

from typing import Protocol

from proxy.catalog.origin import Origin
from proxy.errors import RequestError
from proxy.forwarding.headroom import Fields
from proxy.forwarding.upstream import UpstreamConnection


class Trace(Protocol):
    """Of one request, as its exchange sees it."""

    def connecting(self, origin: Origin, outgoing: bytes) -> None:
        """A new connection is looked for, to send that head on it."""

    def sent(self, connection: UpstreamConnection, outgoing: bytes) -> bytes:
        """A head is about to go out on that connection; the bytes that are to be sent."""

    def refused(self, since: float) -> None:
        """The token was refused, and a newer one waited for, from ``since`` (monotonic seconds) until now."""


class Timeline:
    """What the record needs to know of an exchange, filled in as it happens; times in seconds of the clock.

    ``sent_at``: when a connection was looked for; ``head_at``: the answer's head was there; ``written_at``:
    it was written to the caller. ``echoes``: how often the service's answer held the account's token.
    ``connect_s``, ``token_s``: spent on a new connection, and on a newer token after a refusal. ``trace``:
    told as it happens; None while requests are not traced. ``budget``: the answer's fields, where some may
    tell how many calls are left. Defaults are the class's: one is made for each request, and most of them
    stay.
    """

    sent_at: float | None = None
    head_at: float | None = None
    written_at: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    upstream: str | None = None
    status: int | None = None
    cut: RequestError | None = None
    echoes: int = 0
    connect_s: float = 0.0
    token_s: float = 0.0
    trace: Trace | None = None
    budget: Fields | None = None
