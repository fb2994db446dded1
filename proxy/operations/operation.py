"""What an operation is: a name, an address in the admin API, what it takes, what it answers, who may ask.

The command line runs operations on the vault or asks a server to; the admin API runs them for programs. Both
get the same documents and the same errors.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypedDict

from proxy.admintokens import Scope, grants
from proxy.assembly.inforce import declared_keys
from proxy.budgets import Budgets
from proxy.catalog.model import Catalog
from proxy.connecting import Connecting
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.vault import Vault
from proxy.errors import StateError
from proxy.keys import KeyRecord
from proxy.settings import Settings

Schema = Mapping[str, Any]
Document = Mapping[str, Any]
Method = Literal["GET", "POST", "PUT", "DELETE"]


class Given(TypedDict, total=False):
    """What an operation is given: members of its path, its query and its body."""

    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """What leads to providers: ``connecting`` takes flows to their end, ``endpoint`` asks for tokens."""

    registrations: Registrations
    connecting: Connecting
    endpoint: TokenEndpoint


@dataclass(frozen=True, slots=True)
class Ground:
    """What operations stand on, as it is now.

    Args:
        settings, catalog: in force.
        held: the vault; None where there is none yet: only what looks can be done then.
        parts_of: what leads to providers, for that vault.
        now: seconds since the epoch.
        checks: what was looked at for readiness -> ``ok`` or why not; None where no server runs.
        budgets: what services say is left of their limits; likewise.
    """

    settings: Settings
    catalog: Catalog
    held: Vault | None
    parts_of: Callable[[Vault], Parts]
    now: float
    checks: Mapping[str, str] | None = None
    budgets: Callable[[], Budgets] | None = None

    @property
    def vault(self) -> Vault:
        """The vault.

        Raises:
            StateError: there is none.
        """
        if self.held is None:
            raise StateError("there is no vault yet: 'connector-proxy serve' or 'connect' makes one")
        return self.held

    @property
    def parts(self) -> Parts:
        """What leads to providers.

        Raises:
            StateError: there is no vault.
            ConfigurationError: the settings declare what cannot be had.
        """
        return self.parts_of(self.vault)

    def keys(self) -> Mapping[str, KeyRecord]:
        """The keys of vault and settings, by id."""
        stored = {} if self.held is None else self.held.keys()
        return {**stored, **declared_keys(self.settings)}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for an operation, of the form that its schemas say. ``actor``: whom the audit names."""

    actor: str
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold tokens
    scopes: frozenset[Scope] = frozenset({"admin"})

    def may(self, *wanted: Scope) -> bool:
        """Whether one of these scopes is granted to whoever asks."""
        return grants(self.scopes, wanted)


@dataclass(frozen=True, slots=True)
class Stream:
    """Something that is watched rather than asked for: server-sent events, each with JSON of a schema.

    It stands in the document as operations do. Parameters: see Operation; ``events``: name -> what it holds.
    """

    name: str
    path: str
    summary: str
    scopes: tuple[Scope, ...]
    events: Mapping[str, Schema]
    query: Mapping[str, Schema] = field(default_factory=dict)
    method: ClassVar[Method] = "GET"
    body: ClassVar[None] = None
    creates: ClassVar[bool] = False
    status: ClassVar[int] = 200


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table.

    Args:
        name: ``keys.create``; unique.
        method, path: of the admin API, below its root; ``{parts}`` are in ``fields.PATH``.
        summary: one sentence for the document.
        scopes: any of these is enough; ``admin`` always is.
        answer: schema of the document that ``run`` gives.
        run: does it. Raises ConfigurationError (and its two kinds) for what is wrong with the request,
            StateError and StoreError for what is wrong here.
        query: schemas of query parameters, all of which may be left out.
        body: schema of the request's JSON object; None: it has none.
        creates: the answer is 201, and an idempotency key is honoured.
        location: address of what was created, with names of its document's members.
    """

    name: str
    method: Method
    path: str
    summary: str
    scopes: tuple[Scope, ...]
    answer: Schema
    run: Callable[[Ground, Asked], Awaitable[Document]]
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Schema | None = None
    creates: bool = False
    location: str | None = None

    @property
    def status(self) -> int:
        """Of the answer when it went well."""
        return 201 if self.creates else 200


Endpoint = Operation | Stream
"""What the admin API has under an address."""
