"""The short way of a request: from the caller's bytes to the answer's without a switch of tasks.

For what needs no waiting of our own: a request without a body, whose credential is at hand and for which an
idle connection to the service is open. Its steps are those of every request, in the same order; only the wait
for the answer is a callback. What turns out to need more (an answer in pieces, a refused token, a connection
that died) goes on the long way from where it is.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from proxy import accesslog, log
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.injection import Injection
from proxy.forwarding.places import Place
from proxy.forwarding.record import Record, Recorder
from proxy.forwarding.upstream import UpstreamConnection


class Sent(Protocol):
    """The handler's value for a request as it goes out."""

    @property
    def injection(self) -> Injection:
        """What the account puts into it."""

    @property
    def outgoing(self) -> bytes:
        """The whole head."""

    @property
    def looked(self) -> bool:
        """The answer's body does not pass unread."""


class Ways(NamedTuple):
    """How requests end.

    ``recorder`` is told of those that end on the short way; ``long_way`` sees others through from where
    they are.
    """

    recorder: Recorder
    long_way: Callable[["Direct", CallerConnection], Awaitable[None]]


class Direct:
    """One request under way.

    Args:
        exchange: of the request; not begun.
        place: at the service; given back when it is over.
        record: what will be told of it, with the exchange's timeline.
        sent: the request.
        ways: how it ends.
    """

    __slots__ = ("_connection", "_ways", "exchange", "place", "record", "sent")

    def __init__(self, exchange: Exchange, place: Place, record: Record, sent: Sent, ways: "Ways") -> None:
        self.exchange = exchange
        self.place = place
        self.record = record
        self.sent = sent
        self._ways = ways

    def begin(self, connection: UpstreamConnection) -> None:
        """Send the request on an idle connection."""
        self._connection = connection
        connection.on_head = self._arrived
        self.exchange.begin(connection, self.sent.outgoing)

    def _arrived(self) -> None:
        """The answer's head is there, or never will be."""
        caller = self.exchange.caller
        try:
            done = self._relayed()
        except Exception as error:  # noqa: BLE001  # called by the event loop, which would only log it
            log.crash("data_path_failed", error, request_id=self.record.request_id)
            caller.abort()  # its end is the end of this request, see caller_left
            return
        if done:
            self.record.status = self.exchange.timeline.status or 0
            self._end()
            caller.finished()
        else:
            caller.hand_over()

    def _relayed(self) -> bool:
        """Relay an answer that is whole, no refusal of the token, and has no addresses to look for.

        False: nothing was done.
        """
        sent, connection = self.sent, self._connection
        answer = connection.head
        if answer is None or answer.addressed or sent.looked:
            return False
        self.exchange.timeline.head_at = connection.last_activity
        injection = sent.injection
        rule = injection.refusals.get(answer.status)
        if rule is not None and self.exchange.seems_refused(rule, answer) is not False:
            return False
        return self.exchange.relay_at_once(answer, injection.token)

    def caller_left(self) -> None:
        """Nobody waits any more: the exchange is dropped (R58)."""
        self.exchange.drop()
        self.record.outcome, self.record.status = "caller_left", accesslog.CALLER_LEFT
        self._end()

    def _end(self) -> None:
        self.place.leave()
        exchange = self.exchange
        self._ways.recorder.end(self.record, exchange.timeline, exchange.caller.peer)

    async def go_on(self) -> None:
        """Go the long way from here."""
        await self._ways.long_way(self, self.exchange.caller)
