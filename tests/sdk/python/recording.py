"""What a program of this folder is asked to do (JSON on standard input) and what it tells (JSON on standard output)."""

import asyncio
import importlib.metadata
import json
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

Details = Callable[[Any], Mapping[str, Any]]


class Recording:
    """Runs steps and keeps what each returned or raised.

    ``base`` is the proxy's address; ``key`` may do everything here, ``narrow`` only look, ``stranger`` is
    no key of this proxy.

    Args:
        distribution: the SDK, whose version is told.
        details: what to tell of an exception besides type and text.
    """

    def __init__(self, distribution: str, details: Details = lambda _: {}) -> None:
        task = json.load(sys.stdin)
        self.base: str = task["base"]
        self.key: str = task["key"]
        self.narrow: str = task["narrow"]
        self.stranger: str = task["stranger"]
        self._version = importlib.metadata.version(distribution)
        self._details = details
        self._steps: dict[str, Any] = {}

    def step(self, name: str, call: Callable[[], Any]) -> None:
        """One thing that a user of the SDK would do."""
        try:
            self._steps[name] = {"value": call()}
        except Exception as error:  # noqa: BLE001  # whatever the SDK raises is the finding
            told = {"type": type(error).__name__, "text": str(error), **self._details(error)}
            self._steps[name] = {"error": told}

    def step_async(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """The same with a coroutine function, on a loop of its own."""
        self.step(name, lambda: asyncio.run(call()))

    def tell(self) -> None:
        """Prints everything."""
        json.dump({"version": self._version, "steps": self._steps}, sys.stdout)
