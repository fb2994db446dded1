"""The head of an upstream answer: one reading or none (RFC 9112 §6, §7), filtered for the caller. Pure.

llhttp tokenizes; what the tokens mean is decided here, so that no leniency of a parser can become ours. What
depends only on the names of an answer's fields is worked out once for each list of names and kept as a plan:
services send the same names over and over.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Literal, NamedTuple

from proxy.errors import UpstreamProtocol
from proxy.forwarding.headers import (
    ADDRESSES,
    CONTROLS,
    HOP_BY_HOP,
    MARKER_PREFIXES,
    NEVER_RETURNED,
    NEVER_SENT,
    VIA,
    Field,
    lower_name,
    tokens,
)

BodyKind = Literal["none", "length", "chunked", "eof"]

_DIGITS = b"0123456789"
_MAX_LENGTH_DIGITS = 18
_MIN_FINAL, _MAX_STATUS = 200, 599
_NO_CONTENT = 204
_WITHOUT_BODY = frozenset({_NO_CONTENT, 304})
# What decides framing, routing or access may not come late (RFC 9110 §6.5.1).
_NEVER_TRAILERS = (
    HOP_BY_HOP | NEVER_SENT | {b"content-encoding", b"content-type", b"content-range", b"location"}
)
_FRAMES_OTHERWISE = frozenset({b"transfer-encoding", b"trailer", b"upgrade", b"proxy-connection"})
# Parts of an ordinary head. Values have no spaces or tabs at their ends, no tabs and no controls inside.
_LINE = rb"HTTP/1\.1 ([2-5][0-9]{2}) ([!-~][ -~]*)(?<! )\r\n"
_VALUES = {b"content-length": rb"([0-9]{1,18})", b"connection": rb"([Kk]eep-[Aa]live|close)"}
_VALUE = rb"([^\x00-\x20\x7f][^\x00-\x1f\x7f]*)(?<! )"
_PLANS_KEPT, _PLAN_NAMES, _PLAN_BYTES = 1024, 64, 4096  # services choose the names, so memory is bounded
_NOTHING: frozenset[bytes] = frozenset()
_USUAL_OPTIONS = {name: frozenset({name.lower()}) for name in (b"keep-alive", b"Keep-Alive", b"close")}
_NOT_NAMES = frozenset({b"close", b"keep-alive"})


class AnswerHead(NamedTuple):
    """The head of a final answer: checked, filtered for the caller, with its framing decided.

    ``lines``: the fields that pass, as bytes, in order, repeated ones repeated, ``Via`` of ours last; framing
    is not among them. ``length`` is the body's length in bytes, or for ``body == "none"`` the Content-Length
    that a HEAD or 304 answer announces (None: it announces none). ``reusable``: another request may follow on
    the connection. ``trailers``: lower-case names of announced trailer fields that may be passed on.
    ``coded``: the body has a content coding. ``addressed``: some field holds addresses. ``budgeted``: some
    may tell how many calls are left.
    """

    status: int
    reason: bytes
    lines: bytes
    body: BodyKind
    length: int | None
    reusable: bool
    trailers: frozenset[bytes]
    coded: bool = False
    addressed: bool = False
    budgeted: bool = False


class Plan(NamedTuple):
    """What a list of field names means: what passes, and the places of what does not.

    ``ordinary``: matches an ordinary head with these names (:func:`plain_head`); None: there is none.
    """

    template: bytes
    pick: Callable[[Sequence[bytes]], tuple[bytes, ...]]
    content_length: tuple[int, ...]
    transfer_encoding: tuple[int, ...]
    connection: tuple[int, ...]
    trailer: tuple[int, ...]
    coding: tuple[int, ...]
    addressed: bool
    budgeted: bool
    names: list[bytes]
    ordinary: re.Pattern[bytes] | None


_PLANS: dict[tuple[bytes, ...], Plan] = {}


def answer_head(
    *,
    version: str,
    status: int,
    reason: bytes,
    names: Sequence[bytes],
    values: Sequence[bytes],
    method: bytes,
) -> AnswerHead:
    """Check, filter and frame a final answer to ``method`` (R28, R29, R38, R44, R47, R49, R55).

    Args:
        version: ``1.1`` or ``1.0``; anything else is refused.
        status: 200-599.
        reason: the reason phrase, dropped if it holds control characters.
        names: of the fields, as sent.
        values: of the fields, at the same places.
        method: of the request that is answered.

    Raises:
        UpstreamProtocol: an unknown version or status, a malformed field, or framing with two readings.
    """
    if version != "1.1" and version != "1.0":  # noqa: PLR1714  # a set lookup costs more
        raise UpstreamProtocol("the service answered with another protocol than HTTP/1")
    if not _MIN_FINAL <= status <= _MAX_STATUS:
        raise UpstreamProtocol("the service answered with a status outside 200-599")
    key = tuple(names)
    plan = _PLANS.get(key) or _plan(key)
    check_values(values)
    options = _options(plan.connection, values) if plan.connection else _NOTHING
    if options and not options <= _NOT_NAMES:
        plan = _plan(key, dropped=options)
    lines = plan.template % plan.pick(values)
    length = _length(plan.content_length, values) if plan.content_length else None
    chunked = bool(plan.transfer_encoding) and _chunked(plan.transfer_encoding, values, version)
    if chunked and length is not None:
        raise UpstreamProtocol("the service's answer has both Content-Length and Transfer-Encoding")
    if reason != b"OK" and len(reason.translate(None, CONTROLS)) != len(reason):
        reason = b""
    body: BodyKind = "chunked" if chunked else "length" if length is not None else "eof"
    if method == b"HEAD" or status in _WITHOUT_BODY:
        body = "none"
        length = None if status == _NO_CONTENT else length
    keeps = b"close" not in options and (version == "1.1" or b"keep-alive" in options) and body != "eof"
    trailers = _options(plan.trailer, values) - _NEVER_TRAILERS if plan.trailer else _NOTHING
    coded = any(values[place].lower() != b"identity" for place in plan.coding) if plan.coding else False
    return AnswerHead(
        status, reason, lines, body, length, keeps, trailers, coded, plan.addressed, plan.budgeted
    )


def plain_head(plan: Plan, data: bytes, method: bytes) -> tuple[AnswerHead, list[bytes], int] | None:
    """The head, the values of its fields and its size in bytes, of an ordinary answer; else None.

    Ordinary: HTTP/1.1, final, with the very names of ``plan``, one space before and none behind each value,
    one Content-Length and no other framing. Such a head has one reading, which a parser and
    :func:`answer_head` would give, too (a property test holds them against each other).

    Args:
        plan: of an answer before.
        data: what the answer begins with.
        method: of the request that is answered.
    """
    found = plan.ordinary.match(data) if plan.ordinary is not None else None
    if found is None:
        return None
    status, reason, *values = found.groups()
    code = int(status)
    body: BodyKind = "length"
    length: int | None = int(values[plan.content_length[0]])
    if method == b"HEAD" or code in _WITHOUT_BODY:
        body = "none"
        length = None if code == _NO_CONTENT else length
    keeps = not plan.connection or values[plan.connection[0]] != b"close"
    coded = any(values[place].lower() != b"identity" for place in plan.coding) if plan.coding else False
    lines = plan.template % plan.pick(values)
    head = AnswerHead(
        code, reason, lines, body, length, keeps, _NOTHING, coded, plan.addressed, plan.budgeted
    )
    return head, values, found.end()


def plan_of(names: Sequence[bytes]) -> Plan | None:
    """What is known of answers with these names."""
    return _PLANS.get(tuple(names))


def check_values(values: Iterable[bytes]) -> None:
    """Refuse field values with control characters (RFC 9110 §5.5).

    Raises:
        UpstreamProtocol: one of them has some.
    """
    joined = b"".join(values)
    if len(joined.translate(None, CONTROLS)) != len(joined):
        raise UpstreamProtocol("the service's answer has control characters in a header field")


def _plan(names: tuple[bytes, ...], dropped: frozenset[bytes] = _NOTHING) -> Plan:
    try:
        lower = [lower_name(name) for name in names]
    except ValueError:
        raise UpstreamProtocol("the service's answer has a malformed header name") from None
    passing = tuple(
        place
        for place, name in enumerate(lower)
        if name not in NEVER_RETURNED and name not in dropped and not name.startswith(MARKER_PREFIXES)
    )
    template = b"".join([names[place].replace(b"%", b"%%") + b": %b\r\n" for place in passing])
    via = b"%b: %b\r\n" % VIA

    def places(wanted: bytes) -> tuple[int, ...]:
        return tuple(place for place, name in enumerate(lower) if name == wanted)

    plan = Plan(
        template + via,
        _picker(passing),
        places(b"content-length"),
        places(b"transfer-encoding"),
        places(b"connection"),
        places(b"trailer"),
        places(b"content-encoding"),
        not ADDRESSES.isdisjoint(lower),
        any(b"limit" in name or b"remaining" in name for name in lower),
        list(names),
        None if dropped else _ordinary(names, lower),
    )
    if not dropped and len(names) <= _PLAN_NAMES and sum(map(len, names)) <= _PLAN_BYTES:
        if len(_PLANS) >= _PLANS_KEPT:
            _PLANS.clear()
        _PLANS[names] = plan
    return plan


def _ordinary(names: Sequence[bytes], lower: Sequence[bytes]) -> re.Pattern[bytes] | None:
    if lower.count(b"content-length") != 1 or lower.count(b"connection") > 1:
        return None
    if not _FRAMES_OTHERWISE.isdisjoint(lower):
        return None
    pairs = zip(names, lower, strict=True)
    fields = [b"%b: %b\r\n" % (re.escape(name), _VALUES.get(low, _VALUE)) for name, low in pairs]
    return re.compile(b"".join([_LINE, *fields, b"\r\n"]))


def _picker(places: tuple[int, ...]) -> Callable[[Sequence[bytes]], tuple[bytes, ...]]:
    """What takes the values at ``places``; ``itemgetter`` gives a tuple only from two places on."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple([values[place] for place in places])


def _options(places: tuple[int, ...], values: Sequence[bytes]) -> frozenset[bytes]:
    usual = _USUAL_OPTIONS.get(values[places[0]])
    if usual is not None and len(places) == 1:
        return usual
    try:
        return tokens([values[place] for place in places])
    except ValueError:
        raise UpstreamProtocol("the service's answer has a malformed header field") from None


def _length(places: tuple[int, ...], values: Sequence[bytes]) -> int:
    if len(places) > 1:
        raise UpstreamProtocol("the service's answer has more than one Content-Length")
    value = values[places[0]]
    if not value or value.translate(None, _DIGITS) or len(value) > _MAX_LENGTH_DIGITS:
        raise UpstreamProtocol("the service's answer has a malformed Content-Length")
    return int(value)


def _chunked(places: tuple[int, ...], values: Sequence[bytes], version: str) -> bool:
    if len(places) > 1 or values[places[0]].lower() != b"chunked" or version != "1.1":
        raise UpstreamProtocol("the service's answer has a Transfer-Encoding other than chunked")
    return True


def check_trailers(fields: Sequence[Field]) -> None:
    """Refuse trailer fields that are not tokens and field-values (RFC 9110 §5.1, §5.5).

    Raises:
        UpstreamProtocol: saying which of both.
    """
    try:
        for name, _ in fields:
            lower_name(name)
    except ValueError:
        raise UpstreamProtocol("the service's answer has a malformed trailer name") from None
    check_values([value for _, value in fields])


def trailer_lines(fields: Sequence[Field], wanted: frozenset[bytes]) -> bytes:
    """The trailer fields that may be passed on, as bytes: announced, asked for, and harmless (R54)."""
    if not wanted:
        return b""
    return b"".join([b"%b: %b\r\n" % (name, value) for name, value in fields if name.lower() in wanted])
