"""The ``read-only`` preset: does the service's reviewed allow-list hold a call? Pure (design §4).

An allow-list errs on its own side: a path fits only if it does in the very bytes that are sent and in every
other spelling that a server could take it for, and only on the host that the entry is about.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.catalog.model import ReadOnlyEntry, Service
from proxy.catalog.patterns import has_one_spelling, spellings
from proxy.forwarding.permits.grammar import Permit

_READING = frozenset({"GET", "HEAD"})
_NO_WORD = re.compile(r"\W+")
_DECODINGS = 3


class Call(NamedTuple):
    """One request, as far as permits look at it.

    ``connection``: None while it is not known. ``method``: the effective one; ``sent``: that of the request
    line. ``path``: the upstream path, raw, without ``query``. ``host``: short name, None for the default one.
    ``has_body``: something comes behind the head, on a WebSocket too.
    """

    service: Service
    connection: str | None
    method: str
    path: bytes
    host: str | None
    query: bytes | None
    sent: str
    has_body: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """Entries that differ in their paths only."""

    like: ReadOnlyEntry
    exact: re.Pattern[bytes]
    folded: re.Pattern[bytes]

    def holds(self, call: Call, host: str) -> bool:
        """True when the call is one of these."""
        entry = self.like
        if call.method not in entry.methods or host != entry.host or self.exact.fullmatch(call.path) is None:
            return False
        low = call.path.lower()
        if not has_one_spelling(low) and not all(map(self.folded.fullmatch, spellings(call.path))):
            return False
        if (entry.without or entry.graphql) and call.sent != call.method:
            return False  # with an override, what is judged in the query string may come in the body
        return not entry.excepted.matches(call.path) and not says(call.query, entry.without)


class Preset:
    """The allow-list of one service, compiled."""

    __slots__ = ("_default", "_groups")

    def __init__(self, service: Service) -> None:
        self._default = service.hosts[0].name
        alike: dict[tuple[object, ...], list[ReadOnlyEntry]] = {}
        for entry in service.read_only:
            host = entry.host or self._default
            what = (entry.methods, host, entry.excepted.patterns, entry.without)
            alike.setdefault((*what, entry.graphql, entry.without_fields), []).append(entry)
        self._groups = tuple(_group(entries, self._default) for entries in alike.values())

    def entry_for(self, call: Call) -> ReadOnlyEntry | None:
        """What lets the call through: an entry with its methods and bounds; None when nothing does."""
        if call.has_body and call.sent in _READING:
            return None  # what a service makes of such a body, its documentation does not say
        host = self._default if call.host is None else call.host
        return next((group.like for group in self._groups if group.holds(call, host)), None)


def _group(entries: list[ReadOnlyEntry], default: str) -> _Group:
    exact = [_expression(entry.path.text) for entry in entries]
    folded = [_expression(entry.path.text.lower()) for entry in entries]
    first = entries[0]
    like = ReadOnlyEntry(
        first.methods,
        first.path,
        first.source,
        first.host or default,
        first.excepted,
        first.without,
        first.graphql,
        first.without_fields,
    )
    return _Group(like, re.compile(b"|".join(exact), re.DOTALL), re.compile(b"|".join(folded), re.DOTALL))


def _expression(pattern: str) -> bytes:
    """As in permits, but ``*`` stands for something, and for no backslash: a slash to some servers."""
    parts = (re.escape(part).replace(r"\*", r"[^/\\]+") for part in pattern.split("**"))
    return ".+".join(parts).encode()


def says(query: bytes | None, words: Iterable[str]) -> bool:
    """True when one of the words stands in the query string: in any case, spacing and encoding."""
    if not words or not query:
        return False
    wanted = [_folded(word) for word in words]
    text = query.replace(b"+", b" ")
    for _ in range(_DECODINGS):
        plain = _folded(text.decode("utf-8", "replace"))
        if any(word in plain for word in wanted):
            return True
        text = unquote_to_bytes(text)
    return False


def _folded(text: str) -> str:
    return _NO_WORD.sub(" ", text.casefold())


def why_no_preset(permit: Permit, services: Mapping[str, Service]) -> str:
    """Why a permit must not ask for the preset; empty if it may, or does not."""
    if not permit.read_only:
        return ""
    named = services.keys() if permit.service == "*" else {permit.service} & services.keys()
    without = sorted(name for name in named if not services[name].read_only)
    if not without:
        return ""
    listed = ", ".join(sorted(name for name, service in services.items() if service.read_only))
    return f"there is no reviewed list of reading calls for {', '.join(without)}; there is one for {listed}"


_PRESETS: dict[str, tuple[Service, Preset]] = {}


def preset_of(service: Service) -> Preset:
    """The service's allow-list, compiled once for each version of its file."""
    known = _PRESETS.get(service.type_id)
    if known is None or known[0] is not service:
        known = (service, Preset(service))
        _PRESETS[service.type_id] = known
    return known[1]
