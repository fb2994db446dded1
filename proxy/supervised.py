"""A worker as its supervisor knows it: what it told, what it is asked, how it ended."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import orjson

from proxy.channel import Channel
from proxy.exposition import Definition, Tally
from proxy.feed import Batch
from proxy.forwarding.headroom import Left, Told
from proxy.spawn import how_it_ended

State = Literal["starting", "loaded", "ready", "ending"]
_HANG_UP_S = 5.0  # a process that has closed its channel is about to end


class WorkerLostError(Exception):
    """The worker has ended before it answered."""


class Supervised:
    """One worker process.

    Args:
        number: its place, from 1.
        child: the process; ours: our end of its channel.
        on_told: called after every frame of it with the frame's kind, and with ``end``.

    ``taken`` is the last change of the vault that is in force there, ``may_go`` whether it was told to accept
    connections, ``was_ready`` whether it ever did; ``tally`` and ``checks`` are as last reported.
    ``requests`` are those that it told of last, if somebody watches.
    ``silent_for`` counts the supervisor's seconds since it was heard of. ``is_outdated``: another one is to
    take its place.
    """

    def __init__(
        self,
        number: int,
        child: "subprocess.Popen[bytes]",
        ours: socket.socket,
        on_told: Callable[["Supervised", str], None],
    ) -> None:
        self.number = number
        self.state: State = "starting"
        self.taken = 0
        self.tally: Tally | None = None
        self.checks: Mapping[str, str] = {}
        self.uses: dict[str, float] = {}
        self.account_uses: dict[str, float] = {}
        self.budgets: list[Told] = []
        self.definitions: Mapping[str, Definition] = {}
        self.requests: Batch | None = None
        self.failure: str | None = None
        self.may_go = self.was_ready = self.is_outdated = False
        self.has_drained = self.drained_clean = False
        self.silent_for = 0
        self.started_at = time.monotonic()
        self._child = child
        self._ours = ours
        self._on_told = on_told
        self._channel: Channel | None = None
        self._asked: dict[str, asyncio.Future[Mapping[str, Any]]] = {}

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    async def run(self, start: bytes) -> str:
        """Say the first word and listen until it ends; how it ended.

        Whatever ends this ends the worker as well.
        """
        try:
            self._channel = await Channel.over(self._ours)
            self._channel.send("start", start)
            while (told := await self._channel.receive()) is not None:
                self._heard(*told)
        finally:
            self.state = "ending"
            self._on_told(self, "end")
            for one in self._asked.values():
                if not one.done():
                    one.set_exception(WorkerLostError(f"worker {self.number} ended"))
            if self._channel is None:
                self._ours.close()
            else:
                await self._channel.close()
            status = await asyncio.to_thread(how_it_ended, self._child, _HANG_UP_S)
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"

    def _heard(self, kind: str, body: bytes) -> None:
        facts: Mapping[str, Any] = orjson.loads(body)
        self.silent_for = 0
        match kind:
            case "loaded":
                self.state, self.taken = "loaded", facts["taken"]
                self.definitions = {name: Definition(*one) for name, one in facts["definitions"].items()}
            case "ready":
                self.state, self.was_ready = "ready", True
            case "taken":
                self.taken = facts["taken"]
            case "report":
                self.tally, self.checks = facts["tally"], facts["checks"]
                self.uses.update(facts["uses"])
                self.account_uses.update(facts["account_uses"])
                self.budgets += [
                    Told(service, name, Left(*left), at) for service, name, left, at in facts["budgets"]
                ]
            case "requests":
                self.requests = Batch(facts["requests"], facts["missed"])
            case "failed":
                self.failure = facts["reason"]
            case "drained":
                self.state, self.has_drained, self.drained_clean = "ending", True, facts["clean"]
            case _ if kind in self._asked and not self._asked[kind].done():
                self._asked[kind].set_result(facts)
        self._on_told(self, kind)

    def send(self, kind: str, body: bytes = b"") -> None:
        """Tell it something; one that has ended hears nothing."""
        if self._channel is not None:
            self._channel.send(kind, body)

    async def ask(self, kind: str, body: bytes, *, answer: str, patience_s: float) -> Mapping[str, Any]:
        """Tell it something and wait for the frame that answers it.

        Raises:
            WorkerLostError: it ended.
            TimeoutError: no answer within ``patience_s`` seconds.
        """
        if self.state != "ready":
            raise WorkerLostError(f"worker {self.number} is not at work")
        future = self._asked[answer] = asyncio.get_running_loop().create_future()
        try:
            self.send(kind, body)
            return await asyncio.wait_for(future, patience_s)
        finally:
            del self._asked[answer]

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()
