"""Requests as they happen, for whoever looks on: a bounded memory, and nothing at all while nobody does.

A :class:`Tap` sits where requests are forwarded and gives batches; the :class:`Feed` is where people look.
In one process they are joined directly, with workers by the supervisor's channel. What is too much is not
shown, but counted.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from proxy.accesslog import AccessEvent, access_fields
from proxy.forwarding.record import Spent

INTERVAL_S = 0.25
PER_BATCH = 50  # 200 requests a second: more than anybody reads
REMEMBERED = 500
VIEWERS = 16
LINGER_S = 5.0  # a browser that comes back meanwhile has missed nothing
Told = Mapping[str, Any]


class Batch(NamedTuple):
    """Requests that are over, as the log has them, with ``spent``; ``missed``: how many more there were."""

    requests: Sequence[Told]
    missed: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to see; empty: everything.

    ``status``: how it begins. ``origin``: who made an answer that is an error, ``proxy`` or ``service``.
    """

    service: str = ""
    key: str = ""
    status: str = ""
    origin: str = ""

    def fits(self, one: Told) -> bool:
        """Whether a request is of that kind."""
        status = int(one["status"])
        by_proxy = one.get("error") is not None
        return (
            self.service in {"", one.get("service")}
            and self.key in {"", one.get("key_id")}
            and (not self.status or str(status).startswith(self.status))
            and (not self.origin or (status >= 400 and by_proxy == (self.origin == "proxy")))  # noqa: PLR2004  # RFC 9110 §15: errors
        )


def number_of(text: str) -> int:
    """A request's number as somebody says it who comes back; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0  # noqa: PLR2004  # no such number


class Tap:
    """Gathers requests of this process and tells of them every :data:`INTERVAL_S`.

    Args:
        tell: where batches go; called on the event loop.
    """

    def __init__(self, tell: Callable[[Batch], None]) -> None:
        self._tell = tell
        self._waiting: list[tuple[AccessEvent, Spent]] = []
        self._missed = 0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: AccessEvent, spent: Spent) -> None:
        """Take one (``forwarding.record.Watcher``)."""
        if len(self._waiting) >= PER_BATCH:
            self._missed += 1
            return
        self._waiting.append((event, spent))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._flush)

    def close(self) -> None:
        """Forget what was not told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()

    def _flush(self) -> None:
        waiting, missed = self._waiting, self._missed
        self._timer, self._waiting, self._missed = None, [], 0
        told = [{**access_fields(event), "spent": spent._asdict()} for event, spent in waiting]
        self._tell(Batch(told, missed))


class FeedFullError(Exception):
    """There are :data:`VIEWERS` already."""


class Feed:
    """What people look at.

    Args:
        linger_s: how long things are remembered after the last one has gone.

    ``on_watch`` is told when the first one comes and when the last one is gone.
    """

    def __init__(self, *, linger_s: float = LINGER_S) -> None:
        self._linger_s = linger_s
        self._leaving: asyncio.TimerHandle | None = None
        self.on_watch: Callable[[bool], None] = lambda _: None
        self._remembered: deque[tuple[int, Told]] = deque(maxlen=REMEMBERED)
        self._number = 0
        self._missed = 0
        self._viewers: set[asyncio.Event] = set()
        self._closed = False

    @property
    def is_watched(self) -> bool:
        """Somebody looks on, or did just now."""
        return bool(self._viewers) or self._leaving is not None

    @property
    def is_full(self) -> bool:
        """Nobody else can look on."""
        return len(self._viewers) >= VIEWERS

    def take(self, batch: Batch) -> None:
        """Requests that happened, in any process."""
        if not self.is_watched:
            return  # told by a worker that has not heard yet that everybody has gone
        for one in batch.requests:
            self._number += 1
            self._remembered.append((self._number, one))
        self._missed += batch.missed
        self._wake()

    def close(self) -> None:
        """Let everybody go."""
        self._closed = True
        self._wake()
        if self._leaving is not None:
            self._leaving.cancel()

    def _wake(self) -> None:
        for viewer in self._viewers:
            viewer.set()

    @contextmanager
    def _viewer(self) -> Iterator[asyncio.Event]:
        if self.is_full:
            raise FeedFullError
        if not self.is_watched:
            self.on_watch(True)
        elif self._leaving is not None:
            self._leaving.cancel()
        self._leaving = None
        viewer = asyncio.Event()
        self._viewers.add(viewer)
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            if not self._viewers and not self._closed:
                self._leaving = asyncio.get_running_loop().call_later(self._linger_s, self._left)

    def _left(self) -> None:
        self._leaving = None
        self._remembered.clear()
        self.on_watch(False)

    async def watch(self, after: int, *, idle_s: float) -> AsyncGenerator[tuple[int, Batch]]:
        """What happens after request number ``after``, with the last one's number; until the feed closes.

        An empty batch comes when nothing has happened for ``idle_s`` seconds. Whoever is slow misses what is
        no longer remembered.

        Raises:
            FeedFullError: nobody else can look on.
        """
        with self._viewer() as viewer:
            last, missed = min(after, self._number) or self._number, self._missed
            while not self._closed:
                viewer.clear()  # before looking: what comes from now on is seen the next time
                found = [(number, one) for number, one in self._remembered if number > last]
                lost = self._missed - missed + max(0, (found[0][0] if found else last + 1) - last - 1)
                last, missed = (found[-1][0] if found else last), self._missed
                yield last, Batch([one for _, one in found], lost)
                try:
                    await asyncio.wait_for(viewer.wait(), idle_s)
                except TimeoutError:
                    continue
