"""Where a browser may be sent back to: a path here, or an origin that the operator listed (R104).

The rules are about texts, not about what one URL parser makes of them: whatever browsers and the servers
between read in different ways is refused.
"""

import re
from collections.abc import Collection

_MAX = 2048
_TEXT = re.compile(
    r"[!#-;=?-\[\]_a-z~]+", re.ASCII
)  # RFC 3986 characters: no space, control, quote, \ < > ^ ` { | }
_HIDDEN = re.compile(r"%(?:2f|5c|2e|0[0-9a-f]|1[0-9a-f]|7f|25)", re.ASCII | re.IGNORECASE)


def safe_return(text: str | None, origins: Collection[str]) -> str | None:
    """The text itself when a browser may be sent there, else None.

    Args:
        text: from a query or form; a path with query, or an address.
        origins: listed ones, as ``https://host[:port]``.
    """
    if not text or len(text) > _MAX or _TEXT.fullmatch(text) is None:
        return None
    rest = text
    for origin in origins:
        if text.startswith(origin) and text[len(origin) : len(origin) + 1] in {"", "/", "?"}:
            rest = text[len(origin) :] or "/"
            break
    path = re.split("[?#]", rest, maxsplit=1)[0]
    if rest.startswith("?") and rest is not text:
        return text
    if not path.startswith("/") or "//" in path or _HIDDEN.search(path) or ":" in path.split("/")[1]:
        return None
    return None if {".", ".."} & set(path.split("/")) else text
