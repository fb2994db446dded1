"""Which service, host and upstream path a target means, by its raw bytes (R24-R27, R71, R72, R74).

``/{service}[@{connection}][/~{host}]/{path}[?query]``. The service is the literal first raw segment, before
any decoding. Nothing is decoded for what is sent; decoded forms are only looked at to refuse what would read
differently.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from proxy.catalog.model import Host, Rule, Service
from proxy.catalog.patterns import any_of, decode_once
from proxy.errors import AmbiguousTarget, BadRequest, CallerError, UnknownService
from proxy.forwarding.headers import Memo

_DOTS = frozenset({b".", b".."})
_DECODINGS = 2
# What servers drop from a segment before they look whether it is a dot segment.
_IGNORED_IN_SEGMENTS = bytes(range(0x21)) + b"\x7f"
# Overlong UTF-8 for ".", "/" and "\" (CVE-2000-0884 and its descendants): no valid text has these bytes.
_OVERLONG = ((b"\xc0\xae", b"."), (b"\xc0\xaf", b"/"), (b"\xc1\x9c", b"/"))
_PORT = b":443"
_PATH_REMEMBERED = 256


class Target(NamedTuple):
    """A request target taken apart, nothing decoded.

    ``service`` may be the name of no service. ``host`` is the short name after ``~``. ``rest`` is empty or
    begins with ``/``. ``query`` is None without ``?`` and empty for a bare one.
    """

    service: str
    connection: str | None
    host: str | None
    rest: bytes
    query: bytes | None


class Route(NamedTuple):
    """Where a request goes; ``host`` None: the connection's default host (:func:`resolve_host`).

    ``path`` begins with ``/`` and is the upstream path, byte for byte; ``connection`` None means the default
    one.
    """

    service: Service
    host: Host | None
    path: bytes
    query: bytes | None
    connection: str | None


def parse_target(raw: bytes) -> Target:
    """Take apart a target whose first segment names the service.

    Args:
        raw: origin-form, printable ASCII (the gate saw to that).

    Raises:
        AmbiguousTarget: a dot segment in any spelling (R72).
        BadRequest: not a path, or an empty connection or host name.
    """
    path, mark, query = raw.partition(b"?")
    target = _TARGETS[path]
    return Target(target.service, target.connection, target.host, target.rest, query) if mark else target


def _parse_path(path: bytes) -> Target:
    if path[:1] != b"/":
        raise BadRequest("the request target must be a path beginning with '/'")
    refuse_dot_segments(path)
    first, slash, rest = path[1:].partition(b"/")
    service, connection = _first_segment(first)
    host, rest = _host_segment(slash + rest)
    return Target(service, connection, host, rest, None)


_TARGETS = Memo(_parse_path, longest=_PATH_REMEMBERED)


def rooted_target(raw: bytes, service_id: str, known: Container[str] = ()) -> Target:
    """Take apart a target for one service (own listener, virtual host, key with a root), id optional.

    A literal service id always wins: the given service's own, and those in ``known``.

    Raises:
        AmbiguousTarget, BadRequest: as :func:`parse_target`.
    """
    path, mark, query = raw.partition(b"?")
    name = path[1:].partition(b"/")[0].partition(b"@")[0].removesuffix(_PORT).decode("ascii")
    if name == service_id or name in known:
        return parse_target(raw)
    refuse_dot_segments(path)
    host, rest = _host_segment(path)
    return Target(service_id, None, host, rest, query if mark else None)


def _first_segment(segment: bytes) -> tuple[str, str | None]:
    # @google-analytics/data glues the port to whatever it is given as apiEndpoint.
    name, at, connection = segment.removesuffix(_PORT).decode("ascii").partition("@")
    if not at:
        return name, None
    if not connection:
        raise BadRequest("the connection's name after '@' is missing")
    return name, connection


def _host_segment(rest: bytes) -> tuple[str | None, bytes]:
    if not rest.startswith(b"/~"):
        return None, rest
    name, slash, after = rest[2:].partition(b"/")
    if not name:
        raise BadRequest("the host's name after '~' is missing")
    return name.decode("ascii"), slash + after


def refuse_dot_segments(path: bytes) -> None:
    """Refuse dot segments: plain, encoded once or twice, before ``;`` and between backslashes (R72).

    Raises:
        AmbiguousTarget: the path holds one.
    """
    if b"/." not in path and b"%" not in path and b"\\" not in path:
        return
    form = path
    for _ in range(_DECODINGS + 1):
        folded = form.replace(b"\\", b"/")
        for overlong, plain in _OVERLONG:
            folded = folded.replace(overlong, plain)
        for segment in folded.split(b"/"):
            if segment.partition(b";")[0].translate(None, _IGNORED_IN_SEGMENTS) in _DOTS:
                raise AmbiguousTarget("the path has a dot segment, plain or encoded")
        decoded = decode_once(form)
        if decoded == form:
            return
        form = decoded


@dataclass(frozen=True, slots=True)
class _Plan:
    """A service's routing facts as the matcher needs them."""

    service: Service
    base: bytes
    under: tuple[bytes, ...]
    exactly: frozenset[bytes]
    rules: tuple[tuple[frozenset[bytes] | None, Rule, bytes, bytes], ...]
    has_rule: Callable[[bytes], bool]
    varies: bool
    choices: Memo[tuple[Host | None, bytes]]


_PLANS: dict[str, _Plan] = {}


def _plan_of(service: Service) -> _Plan:
    plan = _PLANS.get(service.type_id)
    if plan is None or plan.service is not service:
        plan = _PLANS[service.type_id] = _make_plan(service)
    return plan


def _make_plan(service: Service) -> _Plan:
    base = service.base_path.rstrip("/").encode()
    under, exactly = _prefixes(service.roots)
    plan = _Plan(
        service=service,
        base=base,
        under=(*under, base + b"/") if base else (b"/",),
        exactly=frozenset(exactly) | {base},
        rules=tuple(
            (
                None
                if not rule.methods or "*" in rule.methods
                else frozenset(m.encode() for m in rule.methods),
                rule,
                rule.strip.rstrip("/").encode(),
                rule.prepend.rstrip("/").encode(),
            )
            for rule in service.rules
        ),
        has_rule=any_of(rule.path for rule in service.rules),
        varies=any(host.when for host in service.hosts),
        choices=Memo(lambda asked: _decide(plan, *asked.split(b" ", 1)), longest=_PATH_REMEMBERED, most=512),
    )
    return plan


def _prefixes(texts: tuple[str, ...]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Prefixes that end at a segment boundary: those to begin with, and those to be equal to (R74)."""
    roots = [text.encode() for text in texts]
    under = tuple(root if root.endswith(b"/") else root + b"/" for root in roots)
    return under, tuple(root for root in roots if not root.endswith(b"/"))


def match(target: Target, method: bytes, service: Service) -> Route:
    """The host and upstream path for a target of ``service``.

    Host rules come first, then the base path, then the rules again on the based path; a host that the target
    names has its own base path and no rules.

    Raises:
        UnknownService: a host that the service has not, or a path outside of what it serves there.
        AmbiguousTarget: raw and decoded path would choose different hosts.
    """
    plan = _plan_of(service)
    if target.host is not None:
        named = _named_host(service, target.host)
        return Route(service, named, _to_named(service, named, target.rest), target.query, target.connection)
    host, path = plan.choices[b"%b %b" % (method, target.rest)]  # a method has no space
    return Route(service, host, path, target.query, target.connection)


def _to_named(service: Service, host: Host, rest: bytes) -> bytes:
    path = _based(_at_seam(rest), host.base_path.rstrip("/").encode())
    _within(host, path, service)
    return path


def _decide(plan: _Plan, method: bytes, rest: bytes) -> tuple[Host | None, bytes]:
    service = plan.service
    host, path, rule = _choose(plan, method, _at_seam(rest))
    if b"%" in rest and _choose(plan, method, _at_seam(decode_once(rest)))[2] is not rule:
        raise AmbiguousTarget("raw and decoded, the path leads to different hosts", service=service.type_id)
    if host is None and not plan.varies:
        host = service.hosts[0]
    if host is not None:
        _within(host, path, service)
    return host, path


def resolve_host(route: Route, config: Mapping[str, str] | None) -> Host:
    """The route's host, once the connection's ``connection_config`` is known.

    Raises:
        UnknownService: the default host does not serve this path.
    """
    if route.host is not None:
        return route.host
    host = route.service.default_host(config or {})
    _within(host, route.path, route.service)
    return host


def _at_seam(rest: bytes) -> bytes:
    """Slashes collapse where the target's prefix ends and nowhere else; no path at all is the root."""
    if rest[:2] == b"//":
        return b"/" + rest.lstrip(b"/")
    return rest or b"/"


def _choose(plan: _Plan, method: bytes, rest: bytes) -> tuple[Host | None, bytes, Rule | None]:
    chosen = _by_rule(plan, method, rest)
    if chosen is not None:
        return chosen
    path = rest if rest.startswith(plan.under) or rest in plan.exactly else _based(rest, plan.base)
    if path is not rest:
        chosen = _by_rule(plan, method, path)
        if chosen is not None:
            return chosen
    return None, path, None


def _by_rule(plan: _Plan, method: bytes, path: bytes) -> tuple[Host | None, bytes, Rule] | None:
    for methods, rule, strip, prepend in plan.rules:
        if (methods is None or method in methods) and rule.path.matches(path):
            stripped = path[len(strip) :] if strip and _starts(path, strip) else path
            host = _named_host(plan.service, rule.host) if rule.host else None
            return host, prepend + _at_seam(stripped), rule
    return None


def _starts(path: bytes, prefix: bytes) -> bool:
    return path == prefix or path.startswith(prefix + b"/")


def _based(rest: bytes, base: bytes) -> bytes:
    """``rest`` under ``base``, joined with exactly one slash (R26); as it is when it already lies there."""
    if not base or _starts(rest, base):
        return rest
    return base if rest == b"/" else base + rest


def _named_host(service: Service, name: str) -> Host:
    host = service.host(name)
    if host is None:
        raise UnknownService("the service has no such host", service=service.type_id)
    return host


def _within(host: Host, path: bytes, service: Service) -> None:
    """Hosts that services share serve each only its own prefixes."""
    if not host.prefixes:
        return
    for prefix in host.prefixes:
        bare = prefix.rstrip("/").encode()
        if _starts(path, bare):
            return
    raise UnknownService("the service does not have this path", service=service.type_id)


def is_default(service: Service, host: Host, rest: bytes, path: bytes) -> bool:
    """True when ``rest`` behind the service's id leads, by any method, to ``path`` on the default host.

    Args:
        service: which.
        host: the connection's default one.
        rest: as it would stand in a target, without a host's short name.
        path: the upstream path, not empty.
    """
    if rest[:2] in {b"//", b"/~"}:
        return False
    plan = _plan_of(service)
    ruled = plan.has_rule(rest or b"/") or (b"%" in rest and plan.has_rule(decode_once(rest) or b"/"))
    try:
        refuse_dot_segments(rest)
        _within(host, path, service)
        if not ruled:
            return (rest or b"/") == path and (path.startswith(plan.under) or path in plan.exactly)
        methods = {b"GET"}.union(*(named for named, _, _, _ in plan.rules if named is not None))
        decided = [_decide(plan, method, rest) for method in methods]
    except CallerError:
        return False
    return all(found == path and (chosen is None or chosen is host) for chosen, found in decided)


def is_named(service: Service, host: Host, path: bytes) -> bool:
    """True when ``/~name`` in front of it leads to ``path`` on ``host``; no path or ``/`` is always there.

    What begins with such a path is for :func:`match` to judge when it is asked for.
    """
    if service.host(host.name) is not host:
        return False
    if path in {b"", b"/"}:
        return not host.base_path.rstrip("/")
    try:
        refuse_dot_segments(path)
        return _to_named(service, host, path) == path
    except CallerError:
        return False
