"""Path patterns of the catalog and of permits: ``*`` stays within a segment, ``**`` is any rest.

Patterns are matched against the upstream path as bytes, without its query. A plain pattern sees the
path exactly as it is sent. :class:`SpellingSet` sees every spelling that a service could take for the
same path, and is for what must never be reached.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote_to_bytes

_WILDCARD = re.compile(r"\*\*|\*")
_PLAIN = re.compile(rb"[a-z0-9/._~!$&'()*+,=:@-]*").fullmatch
_SEGMENT_END = re.compile(rb"[\x00-\x20\x7f]+(?=/|$)")
_FORMATS = (b".json", b".xml")  # Salesforce and others take a format behind the path of any resource
_MAX_DECODINGS = 3


def to_regex(pattern: str) -> bytes:
    """The regular expression (source, for a full match of bytes) of one pattern."""
    out: list[str] = []
    at = 0
    for hit in _WILDCARD.finditer(pattern):
        out.append(re.escape(pattern[at : hit.start()]))
        out.append(".*" if hit.group() == "**" else "[^/]*")
        at = hit.end()
    out.append(re.escape(pattern[at:]))
    return "".join(out).encode()


def _refuse_unfit(pattern: str) -> None:
    if not pattern.startswith(("/", "**")):
        raise ValueError(f"a path pattern begins with '/', this one is {pattern!r}")
    if not pattern.isascii() or any(c <= " " or c in "?#" for c in pattern):
        raise ValueError(f"a path pattern has no spaces, '?' or '#': {pattern!r}")


@lru_cache(maxsize=4096)  # services of one provider share patterns, and re keeps fewer than the catalog has
def _compile(patterns: tuple[str, ...]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(to_regex(pattern) for pattern in patterns), re.DOTALL)


@dataclass(frozen=True, slots=True)
class PathPattern:
    """One pattern, such as ``/repos/*/*/releases/*/assets`` or ``/upload/**``.

    Raises:
        ValueError: if the pattern does not begin with ``/`` or holds bytes that no path can have.
    """

    text: str
    _compiled: re.Pattern[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _refuse_unfit(self.text)
        object.__setattr__(self, "_compiled", _compile((self.text,)))

    def matches(self, path: bytes) -> bool:
        """True when the whole path (raw bytes, no query) fits."""
        return self._compiled.fullmatch(path) is not None


def any_of(patterns: Iterable[PathPattern]) -> Callable[[bytes], bool]:
    """Whether a whole path (raw bytes, no query) fits one of them, in one look."""
    texts = tuple(one.text for one in patterns)
    if not texts:
        return lambda _: False
    fits = _compile(texts).fullmatch
    return lambda path: fits(path) is not None


def decode_once(path: bytes) -> bytes:
    """Percent-decode one level; what is not a valid escape stays."""
    return unquote_to_bytes(path) if b"%" in path else path


def spellings(path: bytes) -> Iterable[bytes]:
    """Every form, lower-cased, that a server could reduce ``path`` to.

    Percent-decoding up to three levels, doubled slashes and backslashes folded, matrix parameters
    (``;x=1``) cut from segments, spaces and control bytes at the ends of segments, a trailing slash and a
    format (``.json``) dropped.
    """
    seen: set[bytes] = set()
    form = path
    for _ in range(_MAX_DECODINGS + 1):
        low = form.lower().replace(b"\\", b"/")
        folded = re.sub(rb"/{2,}", b"/", low)
        cut = _SEGMENT_END.sub(b"", re.sub(rb";[^/]*", b"", folded))
        ends = folded.rstrip(b"/") or b"/", cut.rstrip(b"/") or b"/"
        seen.update((low, folded, cut, *ends, *(_without_format(end) for end in ends)))
        decoded = decode_once(form)
        if decoded == form:
            break
        form = decoded
    return seen


def _without_format(path: bytes) -> bytes:
    for suffix in _FORMATS:
        path = path.removesuffix(suffix)
    return path


def has_one_spelling(low: bytes) -> bool:
    """True when no server could take this path (in small letters) for another one than it is."""
    return b"//" not in low and not low.endswith((b"/", *_FORMATS)) and _PLAIN(low) is not None


@dataclass(frozen=True, slots=True)
class SpellingSet:
    """Patterns that must be recognised however the path is spelt (credential and batch paths).

    ``exempt`` are whole paths, no patterns, let through in exactly that spelling.
    """

    patterns: tuple[str, ...]
    exempt: frozenset[bytes] = frozenset()
    _compiled: re.Pattern[bytes] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for text in self.patterns:
            _refuse_unfit(text)
        compiled = _compile(tuple(text.lower() for text in self.patterns)) if self.patterns else None
        object.__setattr__(self, "_compiled", compiled)

    def matches(self, path: bytes) -> bool:
        """True when any spelling of ``path`` (raw bytes, no query) fits any pattern."""
        if self._compiled is None or path in self.exempt:
            return False
        if self._compiled.fullmatch(path.lower()) is not None:
            return True
        if has_one_spelling(path.lower()):
            return False
        return any(self._compiled.fullmatch(form) for form in spellings(path))
