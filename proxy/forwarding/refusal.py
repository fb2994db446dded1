"""Does an answer say that the service refused the account's token? Pure (design §6; R63, R127).

A 401 says so by its status (RFC 9110 §15.5.2), unless its body names a fault that a newer token would not
mend (``failure.never``: a missing scope). Some services say it in other answers, such as Slack's 200 with
``token_expired``; their files declare these. An entry of ``failure.dead`` counts as refused like one of
``failure.expired``: whether the grant is dead is for the token endpoint to say, which the one forced refresh
asks. A body is looked at only while it is short and may still hold a declared code; what cannot be read in
these bounds is judged by its status alone.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.catalog.grants import Dialect
from proxy.catalog.jsonpath import values_at
from proxy.catalog.model import Service

MOST_BYTES = 4096  # the longest of the declared error answers stay below 1 KiB
MOST_S = 0.05
_UNAUTHORIZED = 401
_JSON = re.compile(rb"application/(?:[a-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE)
_CODINGS = {b"": 0, b"identity": 0, b"gzip": 31, b"x-gzip": 31, b"deflate": zlib.MAX_WBITS}  # zlib's wbits
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """How the answers with one status are judged.

    ``otherwise``: the verdict when no code decides. ``never`` and ``refusing``: the entries that look for
    codes. ``literals``: their codes; one of them stands in every body that decides anything. ``opener``: the
    bytes that such a body may begin with. ``fine``: the beginning of a body that tells of success.
    """

    otherwise: bool
    never: tuple[Dialect, ...] = ()
    refusing: tuple[Dialect, ...] = ()
    literals: tuple[bytes, ...] = ()
    opener: bytes = b""
    fine: re.Pattern[bytes] | None = None


def rules_of(service: Service) -> Mapping[int, Rule]:
    """The rules of a service by status; answers with other statuses are never refusals."""
    dialects = (*service.failure.never, *service.failure.dead, *service.failure.expired)
    statuses = {_UNAUTHORIZED, *(dialect.status for dialect in dialects if dialect.on == "api")}
    rules = {status: _rule(service, status) for status in statuses}
    return {status: rule for status, rule in rules.items() if rule.otherwise or rule.literals}


def _rule(service: Service, status: int) -> Rule:
    failure = service.failure
    never = tuple(entry for entry in failure.never if entry.status == status and entry.on == "api")
    refusing = tuple(
        entry for entry in (*failure.dead, *failure.expired) if entry.status == status and entry.on == "api"
    )
    if any(not entry.path for entry in never):
        return Rule(otherwise=False)
    otherwise = status == _UNAUTHORIZED or any(not entry.path for entry in refusing)
    if otherwise:
        refusing = ()
    elif not refusing:
        return Rule(otherwise=False)
    if not never and not refusing:
        return Rule(otherwise)
    looking = never if otherwise else refusing
    ok = "" if service.verify is None else service.verify.ok_path
    return Rule(
        otherwise,
        never,
        refusing,
        tuple(sorted({code.encode() for entry in looking for code in entry.codes})),
        b"".join(sorted({b"[" if entry.path.startswith("[") else b"{" for entry in looking})),
        re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"%b"[ \t\r\n]*:[ \t\r\n]*true[ \t\r\n]*[,}]' % ok.encode())
        if _PLAIN_KEY.fullmatch(ok)
        else None,
    )


def is_readable(content_type: bytes, coding: bytes, length: int | None) -> bool:
    """True when a body with this head can be judged: JSON, short or of unknown length, in a known coding.

    Args:
        content_type: field value, empty when there is none.
        coding: ``Content-Encoding``, likewise.
        length: in bytes, None when unknown.
    """
    return (
        (length is None or length <= MOST_BYTES)
        and coding.strip().lower() in _CODINGS
        and _JSON.fullmatch(content_type.partition(b";")[0].strip()) is not None
    )


def judge(rule: Rule, body: bytes, coding: bytes, *, complete: bool) -> bool | None:
    """True: the token was refused. False: it was not. None: only more of the body can tell.

    What is said of a beginning stays true of the whole body.

    Args:
        rule: for the status of the answer.
        body: what has come of it.
        coding: its ``Content-Encoding``.
        complete: nothing more will come.
    """
    if len(body) > MOST_BYTES:
        return rule.otherwise
    bits = _CODINGS[coding.strip().lower()]
    if bits:
        if not complete:
            return None
        decoded = _decoded(body, bits)
        return rule.otherwise if decoded is None else _verdict(rule, decoded)
    if complete:
        return _verdict(rule, body)
    return rule.otherwise if _begins_harmlessly(rule, body) else None


def _begins_harmlessly(rule: Rule, body: bytes) -> bool:
    """True when no body that begins so says anything else than the status."""
    start = body.lstrip(b" \t\r\n")[:1]
    return bool(start and start not in rule.opener) or bool(rule.fine is not None and rule.fine.match(body))


def _decoded(body: bytes, bits: int) -> bytes | None:
    """The decoded body; None when it is malformed, cut, or more than MOST_BYTES."""
    if bits == zlib.MAX_WBITS and not _has_zlib_head(body):
        bits = -zlib.MAX_WBITS  # many servers send "deflate" without zlib's frame (RFC 9110 §8.4.1.2)
    decoder = zlib.decompressobj(bits)
    try:
        decoded = decoder.decompress(body, MOST_BYTES)
    except zlib.error:
        return None
    return decoded if decoder.eof and not decoder.unused_data else None


def _has_zlib_head(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0


def _verdict(rule: Rule, body: bytes) -> bool:
    """The verdict on a whole decoded body."""
    if _begins_harmlessly(rule, body):
        return rule.otherwise
    if b"\\" not in body and not any(literal in body for literal in rule.literals):
        return rule.otherwise  # no code can stand in it, so it need not be parsed
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        return rule.otherwise
    if any(_fits(entry, document) for entry in rule.never):
        return False
    return rule.otherwise or any(_fits(entry, document) for entry in rule.refusing)


def _fits(entry: Dialect, document: object) -> bool:
    return any(
        str(value) in entry.codes
        for value in values_at(document, entry.path)
        if isinstance(value, (str, int)) and not isinstance(value, bool)
    )
