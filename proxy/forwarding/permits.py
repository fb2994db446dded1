"""What a key may call: ``SERVICE[@CONN][:METHODS[:PATH]]``, compiled once per key (design §4; R73, R85, R90).

Judged on the method that the service will act on and on the very path that is sent; a path whose decoded form
gives another verdict is refused. What makes, changes or revokes credentials is refused for every key.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from proxy.catalog.model import Service
from proxy.catalog.patterns import PathPattern, decode_once
from proxy.errors import AmbiguousTarget, CredentialPath, NotPermitted
from proxy.forwarding.gate import Head
from proxy.forwarding.headers import Memo, fold

_SERVICE = re.compile(r"\*|[a-z][a-z0-9_]{0,63}")
_CONNECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_METHOD = re.compile(r"[A-Z][A-Z0-9!#$%&'*+.^_`|~-]{0,63}")

# Fields and parameters by which some servers take another method than the one in the request line. Folded,
# lower case.
OVERRIDE_HEADERS = frozenset(
    {b"x-http-method-override", b"x-http-method", b"x-method-override", b"http-method-override"}
)
OVERRIDE_PARAMETERS = frozenset(
    {
        b"-method",
        b"-httpmethod",
        b"$httpmethod",
        b"httpmethod",
        b"http-method",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
    }
)
_VERB = b"method"


@dataclass(frozen=True, slots=True)
class Permit:
    """One permit. ``connection``, ``methods`` and ``path`` None: any."""

    service: str
    connection: str | None = None
    methods: frozenset[str] | None = None
    path: PathPattern | None = None

    def __str__(self) -> str:
        text = self.service + (f"@{self.connection}" if self.connection else "")
        if self.methods is None and self.path is None:
            return text
        text += ":" + ("*" if self.methods is None else ",".join(sorted(self.methods)))
        return text if self.path is None else f"{text}:{self.path.text}"


def parse_permit(text: str) -> Permit:
    """A permit from its text, split at the first two colons (a path may hold more).

    Raises:
        ValueError: naming the part that is wrong and what would be right.
    """
    target, _, rest = text.partition(":")
    methods, _, path = rest.partition(":")
    service, at, connection = target.partition("@")
    if _SERVICE.fullmatch(service) is None:
        raise ValueError(f"permit {text!r}: {service!r} is not a service's id (or '*')")
    if at and _CONNECTION.fullmatch(connection) is None:
        raise ValueError(f"permit {text!r}: {connection!r} is not a connection's name")
    if at and service == "*":
        raise ValueError(f"permit {text!r}: a connection belongs to one service, '*' names all")
    if text.count(":") and not methods:
        raise ValueError(f"permit {text!r}: methods are missing after ':' ('*' for any)")
    names = None if methods in {"", "*"} else frozenset(methods.split(","))
    for name in names or ():
        if _METHOD.fullmatch(name) is None:
            raise ValueError(
                f"permit {text!r}: {name!r} is not a method in capital letters (join several by ',')"
            )
    if text.count(":") > 1 and not path:
        raise ValueError(f"permit {text!r}: a path is missing after the second ':'")
    try:
        pattern = PathPattern(path) if path else None
    except ValueError as error:
        raise ValueError(f"permit {text!r}: {error}") from None
    return Permit(service, connection if at else None, names, pattern)


_Call = tuple[str, str | None, str, bytes]
_VERDICTS = 256
_PATH_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Decider:
    """The permits of one key, arranged by service.

    Verdicts follow from them alone, so the last ones are kept.
    """

    permits: tuple[Permit, ...]
    _whole: frozenset[str] = field(init=False, repr=False, compare=False)
    _by_service: Mapping[str, tuple[Permit, ...]] = field(init=False, repr=False, compare=False)
    _for_any: tuple[Permit, ...] = field(init=False, repr=False, compare=False)
    _verdicts: dict[_Call, bool] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        by_service: dict[str, list[Permit]] = {}
        whole: set[str] = set()
        for permit in self.permits:
            if permit.connection is None and permit.methods is None and permit.path is None:
                whole.add(permit.service)
            by_service.setdefault(permit.service, []).append(permit)
        for_any = tuple(by_service.pop("*", ()))
        object.__setattr__(self, "_whole", frozenset(whole))
        object.__setattr__(self, "_for_any", for_any)
        merged = {name: (*some, *for_any) for name, some in by_service.items()}
        object.__setattr__(self, "_by_service", merged)

    def reaches(self, service: str) -> bool:
        """True when some permit is about the service at all."""
        return bool(self._of(service))

    def names_connections(self, service: str) -> bool:
        """True when the verdict can depend on the connection, so that its name must be resolved first."""
        return any(permit.connection is not None for permit in self._of(service))

    def could_allow(self, service: str, method: str, path: bytes) -> bool:
        """True when the call is allowed with at least one connection."""
        names = {permit.connection for permit in self._of(service)}
        return any(self.allows(service, name, method, path) for name in names)

    def allows(self, service: str, connection: str | None, method: str, path: bytes) -> bool:
        """The verdict for one call.

        Args:
            service: type id.
            connection: the name of the one that is used, None while it is not known.
            method: the effective one.
            path: the upstream path, raw, without query.

        Raises:
            AmbiguousTarget: the decoded path has another verdict than the raw one (R73).
        """
        if service in self._whole or "*" in self._whole:
            return True
        call = (service, connection, method, path)
        verdict = self._verdicts.get(call)
        if verdict is None:
            verdict = self._judge(*call)
            if len(path) <= _PATH_REMEMBERED:
                if len(self._verdicts) >= _VERDICTS:
                    self._verdicts.clear()
                self._verdicts[call] = verdict
        return verdict

    def _judge(self, service: str, connection: str | None, method: str, path: bytes) -> bool:
        permits = [
            permit
            for permit in self._of(service)
            if (permit.connection is None or permit.connection == connection)
            and (permit.methods is None or method in permit.methods)
        ]
        if any(permit.path is None for permit in permits):
            return True
        verdict = _fits(permits, path)
        if b"%" in path and _fits(permits, decode_once(path)) is not verdict:
            raise AmbiguousTarget("raw and decoded, the path has different permits", service=service)
        return verdict

    def _of(self, service: str) -> tuple[Permit, ...]:
        return self._by_service.get(service, self._for_any)


def _fits(permits: Iterable[Permit], path: bytes) -> bool:
    return any(permit.path is not None and permit.path.matches(path) for permit in permits)


def compile_permits(permits: Iterable[Permit]) -> Decider:
    """All permits of one key as one decider; none at all permits nothing."""
    return Decider(tuple(permits))


_CLOSED: dict[str, tuple[Service, Memo[str]]] = {}


def _closed(service: Service) -> Memo[str]:
    """For an upstream path of the service: why it is closed to every key, or nothing."""
    known = _CLOSED.get(service.type_id)
    if known is None or known[0] is not service:
        known = (service, Memo(lambda path: _why_closed(service, path), longest=_PATH_REMEMBERED, most=512))
        _CLOSED[service.type_id] = known
    return known[1]


def _why_closed(service: Service, path: bytes) -> str:
    if service.credential_paths.matches(path):
        return "this path makes, changes or revokes credentials: it is closed to every key"
    if service.batch_paths.matches(path):
        return "batch requests are closed: send their parts one by one"
    return ""


def check(decider: Decider, service: Service, connection: str | None, method: str, path: bytes) -> None:
    """Refuse what the key must not call.

    Raises:
        CredentialPath: for no key at all. NotPermitted: not for this one. AmbiguousTarget: as in ``allows``.
    """
    _check_open(service, path)
    if not decider.allows(service.type_id, connection, method, path):
        raise NotPermitted(_NO_PERMIT, service=service.type_id)


def check_with_any(decider: Decider, service: Service, method: str, path: bytes) -> None:
    """Refuse what the key must not call whichever connection it were: before one is looked for.

    Raises:
        CredentialPath, NotPermitted, AmbiguousTarget: as :func:`check`.
    """
    _check_open(service, path)
    if not decider.could_allow(service.type_id, method, path):
        raise NotPermitted(_NO_PERMIT, service=service.type_id)


_NO_PERMIT = "the key has no permit for this call"


def _check_open(service: Service, path: bytes) -> None:
    closed = _closed(service)[path]
    if closed:
        raise CredentialPath(closed, service=service.type_id)


def effective_method(head: Head, query: bytes | None, service: Service) -> str:
    """The method that the service will act on.

    An override that the service's file declares counts on POST only, as services have it; everywhere else,
    and where it is not declared, a request that carries one is refused: it would be judged as something else.

    Raises:
        NotPermitted: an override that is not declared, not on POST, not a method, or says two things.
    """
    method = head.method.decode()
    found = _overriding_headers(head)
    # A name can hide its letters behind escapes, never all of them from one decoding.
    if query and (b"%" in query or _VERB in query.lower()):
        found += _overriding_parameters(query)
    if not found:
        return method
    declared = _declared_overrides(service)
    if any(place not in declared for place, _ in found) or not declared.isdisjoint(head.connection_names):
        raise NotPermitted("method overrides are refused for this service", service=service.type_id)
    said = {value.decode("latin-1").upper() for _, value in found}
    chosen = said.pop()
    if said or method != "POST" or _METHOD.fullmatch(chosen) is None:
        raise NotPermitted("the method override is not one clear method on a POST", service=service.type_id)
    return chosen


def _declared_overrides(service: Service) -> frozenset[bytes]:
    """The places in which the service looks, and no look-alikes: what it overlooks stays a POST.

    A header field by its name in lower case, a parameter by ``?`` and its name to the byte.
    """
    return frozenset(
        name.lower().encode() if fold(name.encode()) in OVERRIDE_HEADERS else b"?" + name.encode()
        for name in service.method_override
    )


def _overriding_headers(head: Head) -> list[tuple[bytes, bytes]]:
    if head.odd_names:
        return [(low, value) for low, _, value in head.fields if fold(low) in OVERRIDE_HEADERS]
    if OVERRIDE_HEADERS.isdisjoint(head.values):
        return []
    return [(low, value) for low, _, value in head.fields if low in OVERRIDE_HEADERS]


def _overriding_parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for whole in query.split(b"&"):
        for part in whole.split(b";"):
            name, _, value = part.partition(b"=")
            plain = fold(unquote_plus(name.decode("ascii"), "latin-1").encode("latin-1"))
            if plain in OVERRIDE_PARAMETERS:
                place = b"?" + name if part == whole else b";"  # not every server splits there
                found.append((place, unquote_plus(value.decode("ascii"), "latin-1").encode("latin-1")))
    return found
