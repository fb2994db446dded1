"""What requests are judged by, and what a request that may be made is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from proxy.catalog.model import Catalog
from proxy.connectors.model import Credential
from proxy.connectors.module import Obtain
from proxy.forwarding.gate import Head
from proxy.forwarding.handler.everybody import NOBODY
from proxy.forwarding.keys import Grant, KeyRing, Presented
from proxy.forwarding.routing import Route


class Credentials(Protocol):
    """What the data path needs of the connectors module."""

    def ready(self, service: str, connection: str | None) -> Credential | None:
        """The living credential, without waiting; None when it is not at hand."""

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """The living credential; raises an AccountError or UnavailableError."""

    def named_by(self, service: str, header: Callable[[str], str | None]) -> Obtain | None:
        """How to obtain what the request's own headers name; None when they name nothing."""

    async def refused(self, credential: Credential) -> Credential | None:
        """The service refused it: a newer one, or None when there is none to be had."""

    def stands(self, credential: Credential) -> bool:
        """Whether its connection may still be used, whatever became of that very token."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What requests are judged by: services, accounts and keys. Never changed, only replaced whole."""

    catalog: Catalog
    connectors: Credentials
    keyring: KeyRing


class Admitted(NamedTuple):
    """A request that may be made: whose it is, where it goes, with whose token.

    ``presented`` and ``credential`` are None where an address carries its own authorization (``capability``),
    and for what is everybody's (``everybody``), where ``grant`` is NOBODY.
    ``body``: the request's, where a key could stand in it, read and freed of it; ``head`` then frames it.
    ``rest``: that is its beginning, and more comes.
    ``watched``: it is not held, but must not go on where the key stands in it. ``batch``: so many further
    requests are in it, all judged, and in its answer theirs. ``spliced``: the token may stand in it, so that
    it is never sent again with another one.
    """

    head: Head
    route: Route
    grant: Grant
    presented: Presented | None
    credential: Credential | None
    body: bytes | None = None
    watched: bool = False
    batch: int = 0
    spliced: bool = False
    rest: bool = False

    @property
    def lane(self) -> str:
        """Whose places it takes: callers without a key leave all of a service's to those who have one."""
        service = self.route.service.type_id
        return f"{service} for everybody" if self.grant is NOBODY else service
