"""A permit as text: ``SERVICE[@CONN][:METHODS[:PATH]]`` (design §4).

Among the methods may stand words in small letters: ``read-only``, the service's reviewed allow-list, and
``observe``, which lets everything pass and notes what the permit would have refused. A release that does not
know a word cannot read the permit, and permits nothing by it.
"""

import re
from dataclasses import dataclass, replace

from proxy.catalog.patterns import PathPattern

READ_ONLY = "read-only"
OBSERVE = "observe"
WEBSOCKET = "WEBSOCKET"
"""The method of a WebSocket in permits: what goes through it can read and write, whatever its GET says."""
_WORDS = frozenset({READ_ONLY, OBSERVE})
_SERVICE = re.compile(r"\*|[a-z][a-z0-9_]{0,63}")
_CONNECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
METHOD = re.compile(r"[A-Z][A-Z0-9!#$%&'*+.^_`|~-]{0,63}")


@dataclass(frozen=True, slots=True)
class Permit:
    """One permit. ``connection``, ``methods`` and ``path`` None: any.

    ``read_only``: of these only what the service's reviewed allow-list holds. ``observe``: see the module.
    """

    service: str
    connection: str | None = None
    methods: frozenset[str] | None = None
    path: PathPattern | None = None
    read_only: bool = False
    observe: bool = False

    def __str__(self) -> str:
        text = self.service + (f"@{self.connection}" if self.connection else "")
        words = [word for word, said in ((OBSERVE, self.observe), (READ_ONLY, self.read_only)) if said]
        words += sorted(self.methods or ())
        if not words and self.path is None:
            return text
        text += f":{','.join(words) or '*'}"
        return text if self.path is None else f"{text}:{self.path.text}"

    @property
    def marked(self) -> bool:
        """True when more than service, connection, method and path decide."""
        return self.read_only or self.observe


def with_words(permit: Permit, *, read_only: bool, observe: bool) -> Permit:
    """The permit with these words added."""
    return replace(permit, read_only=permit.read_only or read_only, observe=permit.observe or observe)


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
    names, words = _methods(text, methods)
    if text.count(":") > 1 and not path:
        raise ValueError(f"permit {text!r}: a path is missing after the second ':'")
    try:
        pattern = PathPattern(path) if path else None
    except ValueError as error:
        raise ValueError(f"permit {text!r}: {error}") from None
    return Permit(
        service, connection if at else None, names, pattern, READ_ONLY in words, observe=OBSERVE in words
    )


def _methods(text: str, methods: str) -> tuple[frozenset[str] | None, frozenset[str]]:
    """The methods (None: any) and the words among them."""
    if methods in {"", "*"}:
        return None, frozenset()
    said = frozenset(methods.split(","))
    words = said & _WORDS
    names = said - words
    for name in sorted(names):
        if METHOD.fullmatch(name) is None:
            raise ValueError(
                f"permit {text!r}: {name!r} is not a method in capital letters (join several by ','), "
                f"nor {READ_ONLY} or {OBSERVE}"
            )
    return names or None, words
