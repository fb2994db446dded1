"""A request as a service got it."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from support.strict import Message


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came, and how; ``sni`` is the name that the TLS handshake asked for."""

    sni: str | None
    request: Message

    @property
    def host(self) -> str:
        return (self.request.value("host") or b"").decode("latin-1")

    @property
    def target(self) -> str:
        return self.request.target.decode("latin-1")

    @property
    def call(self) -> str:
        """``METHOD host/target``."""
        return f"{self.request.method.decode()} {self.host}{self.target}"

    @property
    def place(self) -> str:
        """``METHOD host/path``."""
        return self.call.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    def json(self) -> Any:
        """The body."""
        return json.loads(self.request.body or b"{}")

    def form(self) -> dict[str, str]:
        """The body of a form."""
        return dict(parse_qsl(self.request.body.decode(), keep_blank_values=True))
