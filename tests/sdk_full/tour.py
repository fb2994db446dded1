"""Runs the scenarios of ``python/``, one after the other, as the tests ask for them.

A scenario is one SDK: ``PACKAGE`` (whose version is told), ``SERVICE``, ``BASES`` (the spellings of its base
URL), ``WITHOUT`` (kind of step -> why there is none), ``use(tour, base)`` and ``refuse(tour, base)``.
The process is asked on standard input and tells on the file descriptor of its argument, a line of JSON a scenario; whatever an
SDK prints goes elsewhere and is looked at too.
"""

import importlib.metadata
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

MESSAGE = "the key has no permit for this call"
"""What the proxy says to a key that may only look."""


@dataclass(frozen=True, slots=True)
class Aside:
    """Where an exception has our sentence when not in its text: in words for a reader, and how one gets there."""

    where: str
    look: Callable[[Any], object]


class Tour:
    """One scenario's run: where the proxy is, the keys, and what came of each step.

    ``http``, ``tls``: the proxy's origins; ``key`` may do everything, ``narrow`` only look; ``rooted`` reaches
    the service without its name in the path.
    """

    def __init__(self, task: dict[str, str]) -> None:
        self.http, self.tls, self.ca_file = task["http"], task["tls"], task["ca_file"]
        self.key, self.narrow, self.rooted = task["key"], task["narrow"], task["rooted"]
        self.base = ""
        self.steps: list[dict[str, Any]] = []

    def read(self, call: Callable[[], Any], expected: object) -> None:
        """A call that changes nothing."""
        self._step("read", call, expected)

    def write(self, call: Callable[[], Any], expected: object) -> None:
        """A call that changes something."""
        self._step("write", call, expected)

    def pages(self, call: Callable[[], Any], expected: object) -> None:
        """All pages of something, by the SDK's own means where it has some."""
        self._step("pages", call, expected)

    def upload(self, call: Callable[[], Any], expected: object) -> None:
        """A file."""
        self._step("upload", call, expected)

    def refused(self, call: Callable[[], Any], kind: str, *, aside: Aside | None = None) -> None:
        """A call that the proxy refuses: the SDK's exception is of that class, and its text holds our sentence.

        ``aside`` is for SDKs whose exceptions have a text of their own.
        """
        try:
            value = call()
        except Exception as error:  # noqa: BLE001  # whatever the SDK raises is the finding
            text = str(error)
            found = text if aside is None else str(aside.look(error))
            passed = (
                type(error).__name__ == kind and MESSAGE in found and (aside is None or MESSAGE not in text)
            )
            self._note("refused", passed, f"{type(error).__name__}: {text}; {found}")
            self.steps[-1]["aside"] = aside.where if aside else ""
        else:
            self._note("refused", False, f"returned {value!r}")

    def _step(self, kind: str, call: Callable[[], Any], expected: object) -> None:
        try:
            value = call()
        except Exception:  # noqa: BLE001  # the same
            self._note(kind, False, traceback.format_exc(limit=-6))
        else:
            self._note(kind, value == expected, repr(value))

    def _note(self, kind: str, passed: bool, told: str) -> None:  # noqa: FBT001  # the verdict
        self.steps.append({"kind": kind, "base": self.base, "passed": passed, "told": told})


def run(task: dict[str, str]) -> dict[str, Any]:
    """One scenario, in all spellings."""
    name = task["name"]
    scenario = load(Path(__file__).parent / "python" / f"{name}.py")
    tour = Tour(task)
    for base in scenario.BASES:
        tour.base = base
        scenario.use(tour, base)
    tour.base = scenario.BASES[0]
    scenario.refuse(tour, tour.base)
    return {
        "package": scenario.PACKAGE,
        "version": importlib.metadata.version(scenario.PACKAGE),
        "without": scenario.WITHOUT,
        "steps": tour.steps,
    }


def load(path: Path) -> ModuleType:
    """A file as a module under a name that shadows no SDK."""
    spec = importlib.util.spec_from_file_location(f"scenario_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Answers until standard input ends."""
    with os.fdopen(int(sys.argv[1]), "w") as told:
        for line in sys.stdin:
            try:
                outcome = run(json.loads(line))
            except Exception:  # noqa: BLE001  # a scenario that breaks is told like a step that fails
                outcome = {"broken": traceback.format_exc()}
            told.write(json.dumps(outcome) + "\n")
            told.flush()


if __name__ == "__main__":
    main()
