"""The caller's side of a connection on which another protocol is to be spoken (RFC 9110 §7.8)."""

import asyncio
from typing import Protocol

EARLY_BYTES = 65_536  # what a caller may send before it knows that the service agrees


class Taker(Protocol):
    """Takes what the caller sends once the protocol is switched."""

    def sent(self, data: bytes) -> None:
        """Some bytes of the caller, never empty."""

    def ended(self) -> bool:
        """The caller ended its side; whether its connection stays open for what the service still sends."""

    def left(self, *, in_order: bool) -> None:
        """The caller's connection is gone; ``in_order``: not cut."""

    def check(self) -> None:
        """Called every now and then: look whether it may go on."""


class Switching:
    """From the offer on nothing of the caller is read as HTTP: bytes are kept, in bounds, for the taker.

    Args:
        transport: the caller's.
        early: what stood behind the offer.
    """

    __slots__ = ("_early", "_over", "_paused", "_taker", "_transport")

    def __init__(self, transport: asyncio.Transport, early: bytes) -> None:
        self._transport = transport
        self._early = bytearray(early)
        self._taker: Taker | None = None
        self._paused = self._over = False

    @property
    def is_open(self) -> bool:
        """The other protocol is being spoken."""
        return self._taker is not None

    def data(self, data: bytes) -> None:
        """Some bytes have come."""
        if self._taker is not None:
            self._taker.sent(data)
        elif not self._over:
            self._early += data
            if len(self._early) > EARLY_BYTES:
                self.pause()

    def accept(self, taker: Taker) -> None:
        """Switched: what has come and will come is the taker's."""
        self._taker = taker
        early, self._early = bytes(self._early), bytearray()
        if early:
            taker.sent(early)
        self.resume()

    def finish(self) -> None:
        """Over: whatever still comes is nobody's."""
        self._taker, self._over = None, True

    def pause(self) -> None:
        """Read no more for now."""
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, unless the connection is closing."""
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def ended(self) -> bool:
        """The caller ended its side (FIN); true where the connection stays open. TLS has no half-close."""
        return self._taker is not None and self._transport.can_write_eof() and self._taker.ended()

    def end_writing(self) -> bool:
        """Tell the caller that nothing more comes; false where that is not possible without closing."""
        if self._transport.is_closing() or not self._transport.can_write_eof():
            return False
        self._transport.write_eof()
        return True

    def left(self, *, in_order: bool) -> None:
        """The connection is gone."""
        if self._taker is not None:
            self._taker.left(in_order=in_order)

    def check(self) -> None:
        """See :meth:`Taker.check`."""
        if self._taker is not None:
            self._taker.check()
