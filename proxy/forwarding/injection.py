"""What an account puts into requests to one of its service's hosts: worked out once per credential. Pure."""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.catalog.model import Auth, Host, KeyPlace, Scheme, Service
from proxy.catalog.origin import Origin
from proxy.errors import CredentialInvalid
from proxy.forwarding.headers import NEVER_SENT, REQUEST_PREFIXES, SUBPROTOCOLS, Memo, fold
from proxy.forwarding.links.declared import Declared, declared_by
from proxy.forwarding.refusal import Rule, rules_of
from proxy.secret import Secret

_PREFIXES = {"bearer": b"Bearer ", "bot": b"Bot ", "token": b"token ", "raw": b"", "header": b""}
_NO_SPACE = frozenset({"bearer", "bot", "token", "header"})
_WITH_TOKEN = frozenset({"add"})
_PRINTABLE = bytes(range(0x20, 0x7F))


@dataclass(frozen=True, slots=True)
class Injection:
    """What one credential puts into requests to one host: ``line`` is a whole header line, or empty.

    ``start``: what the head begins with after the target. ``passes``: for a caller's field of a (folded,
    lower-case) name, whether it goes on. ``replace_headers`` and
    ``replace_parameters``: key places where the service expects its token instead. ``defaults``: (lower-case
    name, line) of fields sent when the caller sent none. ``links``: answers that are looked into.
    """

    service: Service
    host: Host
    origin: Origin
    start: bytes
    line: bytes = field(repr=False)
    token: bytes = field(repr=False)
    passes: Memo[bool] = field(repr=False)
    replace_headers: tuple[KeyPlace, ...]
    replace_parameters: tuple[KeyPlace, ...]
    parameters: frozenset[bytes]
    defaults: tuple[tuple[bytes, bytes], ...]
    none_parameters: frozenset[bytes]
    may_go_without: bool
    refusals: Mapping[int, Rule] = field(repr=False)
    links: Declared | None = field(repr=False)


def prepare(
    service: Service,
    host: Host,
    *,
    token: Secret,
    scheme: Scheme | None = None,
    config: Mapping[str, str] | None = None,
    withheld: frozenset[bytes] = frozenset(),
) -> Injection:
    """Everything for requests to ``host`` with ``token``: keep it as long as the credential object lives.

    A host's own auth comes before the connection's ``scheme``, and that before the service's. Callers' fields
    of the ``withheld`` names (lower case) do not go on.

    Raises:
        CredentialInvalid: the token cannot stand in a header field (R33, R39), or ``config`` leads elsewhere.
        ConnectionConfigMissing: the origin needs a value that ``config`` lacks.
    """
    auth = host.auth or (Auth(scheme, service.auth.header) if scheme is not None else service.auth)
    if host.auth is None and scheme is not None and scheme != "header" and service.auth.scheme == "header":
        auth = Auth(scheme)
    origin = host.origin.build(config or {}, service=service.type_id)
    bare = _token_bytes(token, auth.scheme, service) if host.token in _WITH_TOKEN else b""
    line = b"%b: %b\r\n" % (auth.header.encode(), _value(bare, auth, service)) if bare else b""
    headers = [place for place in service.key_places if place.where == "header"]
    queries = [place for place in service.key_places if place.where == "query"]
    return Injection(
        service=service,
        host=host,
        origin=origin,
        start=b" HTTP/1.1\r\nHost: %b\r\n" % origin.authority.encode(),
        line=line,
        token=bare,
        passes=_passing([*(place.name for place in headers), service.auth.header, auth.header], withheld),
        replace_headers=tuple(place for place in headers if place.replace),
        replace_parameters=tuple(place for place in queries if place.replace),
        parameters=frozenset(place.name.lower().encode() for place in queries),
        defaults=tuple(
            (name.lower().encode(), f"{name}: {value}\r\n".encode()) for name, value in service.headers
        ),
        none_parameters=frozenset(name.lower().encode() for name in host.none_when_query),
        may_go_without=bool(host.none_when or host.none_when_query),
        refusals=rules_of(service) if line else {},
        links=declared_by(service),
    )


def _passing(own: list[str], withheld: frozenset[bytes]) -> Memo[bool]:
    """Which of a caller's fields go on: not those of ``NEVER_SENT``, nor the service's ``own`` places."""
    dropped = NEVER_SENT | withheld | {fold(name.encode()) for name in own} - {SUBPROTOCOLS}  # see _freed
    return Memo(lambda name: name not in dropped and not name.startswith(REQUEST_PREFIXES))


def _token_bytes(token: Secret, scheme: Scheme, service: Service) -> bytes:
    text = token.reveal()
    bad = (
        not text
        or not text.isascii()
        or text != text.strip(" ")
        or text.encode().translate(None, _PRINTABLE)
        or (scheme in _NO_SPACE and " " in text)
    )
    if bad:
        raise CredentialInvalid("the stored token cannot be sent in a header field", service=service.type_id)
    return text.encode()


def _value(token: bytes, auth: Auth, service: Service) -> bytes:
    if auth.scheme != "basic":
        return _PREFIXES[auth.scheme] + token
    if b":" not in token:
        raise CredentialInvalid("the stored token is not 'user:password'", service=service.type_id)
    return b"Basic " + binascii.b2a_base64(token, newline=False)


def looks_into(injection: Injection, path: bytes) -> bool:
    """True when answers to this upstream path are looked into for addresses."""
    return injection.links is not None and injection.links.at(path) is not None
