"""The short way of a request: from the caller's bytes to the answer's without a switch of tasks.

For what needs no waiting of our own: a request without a body, whose credential is at hand and for which an
idle connection to the service is open. Its steps are those of every request, in the same order; only the wait
for the answer is a callback. What turns out to need more (an answer in pieces, a refused token, a connection
that died) goes on the long way from where it is.
"""

from collections.abc import Awaitable, Callable

from proxy import accesslog, log
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.exchange import Exchange, Timeline
from proxy.forwarding.gate import Head
from proxy.forwarding.places import Place
from proxy.forwarding.record import Record, Recorder
from proxy.forwarding.rewrite import Injection
from proxy.forwarding.upstream import UpstreamConnection


class Direct:
    """One request under way.

    ``admitted`` is the handler's. ``outgoing``: the request's head as it was sent.

    Args:
        exchange: of the request; not begun.
        connection: idle; the request is sent on it.
        caller: who waits.
        record, timeline: what will be told of it.
        admitted, injection, outgoing: see above, and ``rewrite``.
        place: at the service; given back when it is over.
        recorder: told of it when it is over on the short way.
        as_it_is: the answer's body passes unread.
        long_way: sees it through from where it is.
    """

    __slots__ = (
        "_as_it_is",
        "_caller",
        "_connection",
        "_long_way",
        "_recorder",
        "admitted",
        "exchange",
        "injection",
        "outgoing",
        "place",
        "record",
        "timeline",
    )

    def __init__(
        self,
        exchange: Exchange,
        connection: UpstreamConnection,
        caller: CallerConnection,
        *,
        record: Record,
        timeline: Timeline,
        admitted: object,
        injection: Injection,
        outgoing: bytes,
        place: Place,
        recorder: Recorder,
        as_it_is: bool,
        long_way: Callable[["Direct", CallerConnection], Awaitable[None]],
    ) -> None:
        self.exchange = exchange
        self._connection = connection
        self._caller = caller
        self.record = record
        self.timeline = timeline
        self.admitted = admitted
        self.injection = injection
        self.outgoing = outgoing
        self.place = place
        self._recorder = recorder
        self._as_it_is = as_it_is
        self._long_way = long_way

    @property
    def head(self) -> Head:
        """Of the request."""
        return self.exchange.request

    def begin(self) -> None:
        """Send the request."""
        self._connection.on_head = self._arrived
        self.exchange.begin(self._connection, self.outgoing)

    def _arrived(self) -> None:
        """The answer's head is there, or never will be."""
        caller = self._caller
        try:
            done = self._relayed()
        except Exception as error:  # noqa: BLE001  # called by the event loop, which would only log it
            log.crash("data_path_failed", error, request_id=self.record.request_id)
            caller.abort()  # its end is the end of this request, see caller_left
            return
        if done:
            self.record.status = self.timeline.status or 0
            self._end()
            caller.finished()
        else:
            caller.hand_over()

    def _relayed(self) -> bool:
        """Relay an answer that is whole, no refusal of the token, and has no addresses to look for.

        False: nothing was done.
        """
        answer = self._connection.head
        if answer is None or answer.addressed or not self._as_it_is:
            return False
        self.timeline.head_at = self.exchange.now()
        injection = self.injection
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
        self._recorder.end(self.record, self.timeline, self._caller.peer)

    async def go_on(self) -> None:
        """Go the long way from here."""
        await self._long_way(self, self._caller)
