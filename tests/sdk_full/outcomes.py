"""The SDKs, and what they did."""

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support import strict
from support.arrivals import Arrival
from support.tap import Conversation

HERE = Path(__file__).parent
KINDS = ("read", "write", "pages", "upload", "refused")


@dataclass(frozen=True, slots=True)
class Sdk:
    """A scenario file; its name is ``SERVICE-package``."""

    language: str
    name: str

    @property
    def service(self) -> str:
        return self.name.partition("-")[0]

    def __str__(self) -> str:
        return f"{self.language}/{self.name}"


SDKS = (
    *(Sdk("python", path.stem) for path in sorted((HERE / "python").glob("*.py"))),
    *(Sdk("node", path.stem) for path in sorted((HERE / "node").glob("*.mjs"))),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One use of an SDK: its kind, the spelling of the base URL, and what it gave or raised.

    ``aside``: where a refusal's sentence is when the exception's text has it not.
    """

    kind: str
    base: str
    passed: bool
    told: str
    aside: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one SDK did.

    ``calls`` came to the service's hosts, ``faults`` of them should not have; ``trapped`` names what the SDK wanted
    to reach besides the proxy; ``recorded`` is every byte that the hosts got, one item a connection.
    """

    package: str
    version: str
    without: Mapping[str, str]
    steps: tuple[Step, ...]
    output: bytes
    trapped: tuple[str, ...]
    calls: tuple[Arrival, ...]
    faults: tuple[str, ...]
    recorded: tuple[bytes, ...]
    dirt: tuple[str, ...]
    conversations: tuple[Conversation, ...]

    @property
    def passed(self) -> int:
        return sum(step.passed for step in self.steps)

    def failures(self) -> list[str]:
        """The steps that went wrong, and how."""
        return [f"{one.kind} {one.base}: {one.told}" for one in self.steps if not one.passed]

    def fragments(self) -> Iterator[bytes]:
        """Everything that hosts got: each connection's bytes, and each body by itself (it may have come in chunks)."""
        yield from self.recorded
        yield from (call.request.body for call in self.calls)

    def received(self) -> Iterator[bytes]:
        """Everything that the SDK got from the proxy: as bytes, and each coded body decoded."""
        for conversation in self.conversations:
            yield bytes(conversation.received)
            methods = [message.method for message in strict.requests(bytes(conversation.sent)).messages]
            for message in strict.responses(bytes(conversation.received), methods, closed=True).messages:
                if message.value("content-encoding") == b"gzip" and message.body:
                    yield gzip.decompress(message.body)


@dataclass(frozen=True, slots=True)
class Started:
    """What a program under ``connector-proxy run`` did: its status and output, and as of :class:`Outcome`."""

    status: int
    out: str
    err: str
    calls: tuple[Arrival, ...]
    faults: tuple[str, ...]
    recorded: tuple[bytes, ...]
