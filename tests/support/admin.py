"""The admin API of a running server: requests as programs send them, tokens as operators make them."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.commands import command
from support.proxy import bound
from support.serving import Serve

ROOT = "/api/v1"
NOTHING = object()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``body`` parsed."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        """Of a problem."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        return str(self.body["code"])

    @property
    def fields(self) -> set[str]:
        """What a problem complains about."""
        return {one["field"] for one in self.body.get("errors", ())}


@dataclass(slots=True)
class Api:
    """One asker of one server. ``token`` None: nobody in particular."""

    address: tuple[str, int]
    token: str | None = None
    context: ssl.SSLContext | None = None

    def __call__(
        self,
        method: str,
        path: str,
        body: object = NOTHING,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        if self.context is None:
            connection = http.client.HTTPConnection(*self.address, timeout=20.0)
        else:
            connection = http.client.HTTPSConnection(*self.address, timeout=20.0, context=self.context)
        sent = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        if body is not NOTHING or raw is not None:
            sent["Content-Type"] = "application/json"
        data = raw if raw is not None else None if body is NOTHING else json.dumps(body).encode()
        try:
            connection.request(method, ROOT + path, data, {**sent, **(headers or {})})
            answer = connection.getresponse()
            read = answer.read()
            return Answer(answer.status, dict(answer.getheaders()), json.loads(read) if read else None)
        finally:
            connection.close()

    def having(self, token: str | None) -> "Api":
        """The same server for another asker."""
        return Api(self.address, token, self.context)


@dataclass(frozen=True, slots=True)
class Site:
    """A server and its operator's command line."""

    server: Serve
    folder: Path

    @property
    def address(self) -> tuple[str, int]:
        """Of the control plane."""
        found = bound(self.server.told["control"])
        assert not isinstance(found, Path)
        return found

    def run(self, *args: str, stdin: bytes = b"") -> str:
        """A command on the vault; what it printed."""
        done = command(*args, "--data-dir", str(self.server.data), folder=self.folder, stdin=stdin)
        assert done.code == 0, done
        return done.out.strip()

    def token(self, name: str, *scopes: str) -> str:
        """A new admin token."""
        return self.run("tokens", "create", name, *(word for scope in scopes for word in ("--scope", scope)))

    def api(self, *scopes: str) -> Api:
        """An asker with these scopes."""
        return Api(self.address, self.token("-".join(scopes).replace(":", "."), *scopes))
