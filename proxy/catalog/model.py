"""What a service is: frozen types, one instance a file of ``config/services``. The loader builds them.

Values are checked in the loader, which can name file and key; here they are only given a shape.
Paths are patterns on the upstream path without query (see ``patterns``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

from proxy.catalog.grants import Failure, OAuth, Verified, Verify
from proxy.catalog.origin import OriginTemplate
from proxy.catalog.patterns import PathPattern, SpellingSet
from proxy.errors import CredentialInvalid, Fault

NO_PATHS = SpellingSet(())
Scheme = Literal["bearer", "bot", "token", "raw", "basic", "header"]


@dataclass(frozen=True, slots=True)
class Auth:
    """How the token is put into a request. ``header`` is the field name; the others shape its value.

    bearer ``Bearer T`` · bot ``Bot T`` · token ``token T`` · raw ``T`` · basic ``Basic base64(T)`` with
    T = ``user:password`` · header: ``T`` bare in the field ``header`` instead of Authorization.
    """

    scheme: Scheme = "bearer"
    header: str = "Authorization"


@dataclass(frozen=True, slots=True)
class Host:
    """One of a service's hosts; the first in the file is the default.

    ``when`` (param -> value) makes this the default host for connections configured so.
    ``prefixes``: if any, only upstream paths beginning with one of them (hosts that services share).
    ``base_path``: put in front when this host is named by ``~name``; the default host (and one that
    ``when`` chose) uses the service's. ``token = "none"`` hosts, ``none_when`` paths and requests with a
    query parameter of ``none_when_query`` go without the token. ``enabled``: off for hosts known only
    from memory, until the operator switches ``service.name`` on.
    """

    name: str
    origin: OriginTemplate
    prefixes: tuple[str, ...] = ()
    base_path: str = ""
    token: Literal["add", "none"] = "add"  # noqa: S105  # a choice, not a token
    none_when: tuple[PathPattern, ...] = ()
    none_when_query: tuple[str, ...] = ()
    enabled: bool = True
    when: Mapping[str, str] = field(default_factory=dict)
    auth: Auth | None = None
    verified: Verified = "documents"
    about: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """Chooses a host by method and path, and may ``strip`` a prefix from or ``prepend`` one to the path.

    Rules are tried in the file's order, first on the path as it came, and when none applies again on the
    path with base_path in front; the first that applies is the only one. No methods: any method.
    ``strip`` goes first; a rest that is then empty is ``/``.
    """

    methods: frozenset[str]
    path: PathPattern
    host: str
    strip: str = ""
    prepend: str = ""

    def applies(self, method: str, path: bytes) -> bool:
        """True when a request of this method and raw path (without query) is this rule's."""
        return (not self.methods or method in self.methods) and self.path.matches(path)


@dataclass(frozen=True, slots=True)
class Param:
    """A value of ``connection_config`` (or, with ``informational``, of the connection's metadata).

    ``pattern`` is matched fully, ASCII only, after lower-casing when ``lower``. ``source`` tells where it
    comes from: ``user``, ``token:dotted.path`` of the token answer, ``callback:name`` of the redirect's
    query, or ``call`` (the verify call).
    ``prefix`` is put in front of a value that has no ``://`` (``acme.my.salesforce.com``). ``default`` fills
    addresses when the connection says nothing; it never shows up in ``connection_config``.
    """

    name: str
    pattern: str
    required: bool = False
    example: str = ""
    description: str = ""
    source: str = "user"
    aliases: tuple[str, ...] = ()
    lower: bool = False
    informational: bool = False
    default: str | None = None
    title: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """A further place where this service's clients put their token, so where our key may stand.

    ``replace``: the service expects its token in that very place (else the place is removed).
    ``closed``: calls in SOAP that make, change or revoke credentials, for no key.
    ``paths`` hold for body places (form, soap, part); none: every path of the service. They are written in
    both spellings, with and without base_path, because the key is looked for before the address is built.
    """

    where: Literal["header", "query", "form", "soap", "part"]
    name: str
    paths: tuple[PathPattern, ...] = ()
    replace: bool = False
    closed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How the service says "too fast": statuses, and headers with their unit.

    Units: seconds, seconds_decimal, epoch_s, epoch_s_decimal, epoch_ms, count, ratio, window, text.
    """

    statuses: tuple[int, ...] = (429,)
    headers: Mapping[str, str] = field(default_factory=dict)
    limits: str = ""


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """The service's own shape for errors that the proxy makes; ``{code}`` and ``{message}`` are filled in.

    ``status`` goes out instead of the proxy's own: of ``statuses``, or when there are none of all but 429, by
    which clients wait (Slack's, too). ``codes``: the proxy's status -> the service's word for such errors,
    which ``{service_code}`` stands for; 400 and 500 are there for the statuses that are not.
    """

    template: str = ""
    status: int | None = None
    statuses: tuple[int, ...] = ()
    content_type: str = "application/json"
    codes: Mapping[int, str] = field(default_factory=dict)

    def status_for(self, own: int) -> int:
        """What goes out where the proxy's own status is ``own``."""
        replaced = own in self.statuses if self.statuses else own != HTTPStatus.TOO_MANY_REQUESTS
        return self.status if self.status and replaced else own

    def code_for(self, own: int) -> str:
        """The service's word where the proxy's own status is ``own``; empty without ``codes``."""
        of_its_class = HTTPStatus.BAD_REQUEST if own < HTTPStatus.INTERNAL_SERVER_ERROR else 500
        return self.codes.get(own) or self.codes.get(of_its_class, "")


@dataclass(frozen=True, slots=True)
class Link:
    """A field of answers that names the service's hosts and becomes a proxy address, or the way back.

    ``header`` and ``json`` are fields of answers; ``websocket``: as ``json``, and addresses of WebSockets
    too; ``request``: members of JSON requests in which a proxy address becomes the service's. JSON ``names``
    are keys at any depth; ``*`` stands for any part of a key, ``parent.*`` for the children of the object
    ``parent``. ``paths``: only these upstream paths; none: all.
    """

    where: Literal["header", "json", "websocket", "request"]
    names: tuple[str, ...]
    paths: tuple[PathPattern, ...] = ()


@dataclass(frozen=True, slots=True)
class Presigned:
    """Hosts (exact or ``*.`` suffix) whose addresses carry their own authorization: no token, ever."""

    host: str
    paths: tuple[PathPattern, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Where requests that hold further requests are taken, because all of these can be read and judged.

    ``multipart``: HTTP requests in ``multipart/mixed`` (Google). ``json``: an object with an array
    ``requests``, whose addresses are relative to what stands before the path's last segment (OData, Graph).
    ``most``: requests in one. ``paths`` are whole ones: whatever else is under ``batch_paths`` stays closed.
    """

    form: Literal["multipart", "json"]
    paths: frozenset[bytes]
    most: int


@dataclass(frozen=True, slots=True)
class ReadOnlyEntry:
    """One reviewed entry of the ``read-only`` preset, with the page that says it does not write.

    ``host``: short name of the host that it is about; empty: the default one. ``excepted``: paths that the
    pattern covers and the entry does not. ``without``: words that must not stand in the query string, in any
    case. ``graphql``: a path of GraphQL, whose documents are looked into; ``without_fields``: what they must
    not select.
    """

    methods: frozenset[str]
    path: PathPattern
    source: str
    host: str = ""
    excepted: SpellingSet = NO_PATHS
    without: tuple[str, ...] = ()
    graphql: bool = False
    without_fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Service:
    """One service, valid from birth; ``type_id`` is the file name and the first path segment.

    ``roots``: a path that equals one, or goes on after it at a ``/``, is sent as it is; any other gets
    ``base_path`` in front, and an empty one or ``/`` becomes base_path itself. ``public``: upstream paths
    that the service answers without a token and for which its clients send none. ``links_back``: those of
    ``[[links]]`` that are about requests. ``user``: from a user's folder.
    ``digest``: ``loader.file_hash`` of the file.
    """

    type_id: str
    title: str
    docs: str
    console: str
    verified: Verified
    hosts: tuple[Host, ...]
    source_file: str
    base_path: str = ""
    roots: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    credential_paths: SpellingSet = NO_PATHS
    batch_paths: SpellingSet = NO_PATHS
    batch: Batch | None = None
    method_override: tuple[str, ...] = ()
    header_underscores: bool = False
    auth: Auth = Auth()
    headers: tuple[tuple[str, str], ...] = ()
    params: Mapping[str, Param] = field(default_factory=dict)
    key_places: tuple[KeyPlace, ...] = ()
    oauth: OAuth | None = None
    verify: Verify | None = None
    rate_limit: RateLimit = RateLimit()
    failure: Failure = field(default_factory=Failure)
    errors: ErrorShape | None = None
    links: tuple[Link, ...] = ()
    links_back: tuple[Link, ...] = ()
    presigned: tuple[Presigned, ...] = ()
    read_only: tuple[ReadOnlyEntry, ...] = ()
    public: tuple[PathPattern, ...] = ()
    notes: tuple[str, ...] = ()
    user: bool = False
    digest: str = ""

    def host(self, name: str) -> Host | None:
        """The enabled host of that short name, or None."""
        return next((h for h in self.hosts if h.name == name and h.enabled), None)

    def default_host(self, config: Mapping[str, str]) -> Host:
        """The host for requests that name none: the first whose ``when`` fits, else the first.

        Raises:
            CredentialInvalid: the connection's host is switched off; its token goes to no other.
        """
        for candidate in self.hosts:
            if candidate.when and all(config.get(k) == v for k, v in candidate.when.items()):
                if not candidate.enabled:
                    raise CredentialInvalid(
                        f"the connection needs {self.type_id}.{candidate.name}, which is switched off",
                        service=self.type_id,
                    )
                return candidate
        return self.hosts[0]

    def is_under_root(self, path: bytes) -> bool:
        """True when ``path`` is spelt from the origin, so that base_path must not go in front."""
        for text in self.roots:
            root = text.rstrip("/").encode()
            if path.startswith(root) and path[len(root) : len(root) + 1] in {b"", b"/"}:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Catalog:
    """All services in force, by type id. ``warnings``: worth telling the operator, no reason to stop."""

    services: Mapping[str, Service]
    warnings: tuple[Fault, ...] = ()

    def get(self, type_id: str) -> Service | None:
        """The service of exactly that id, or None."""
        return self.services.get(type_id)
