"""Addresses of the proxy in a JSON body on its way to a service, which knows its own addresses only.

The opposite of ``links``: only string values that are an address as a whole, and that lead to the service of
the request by the same connection, become what they stand for. Every other byte stays.
"""

import re
from collections.abc import Callable

_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_NAME_ENDS = re.compile(rb"[ \t\r\n]*:")
_HTTP = (b"http:", b"https:")

Resolve = Callable[[bytes], bytes | None]


def returned(body: bytes, authorities: frozenset[bytes], resolve: Resolve) -> bytes:
    """The JSON text with the proxy's addresses replaced.

    Args:
        body: well-formed, or not: what is not stays as it is.
        authorities: host and port under which the caller reaches the proxy, lower case.
        resolve: for an absolute address, the service's own; None: it stays.
    """
    if not any(authority in body.lower() for authority in authorities):
        return body
    made: list[bytes] = []
    gone = 0
    for found in _STRING.finditer(body):
        raw = found[1]
        if not raw.startswith(_HTTP) or _NAME_ENDS.match(body, found.end()) is not None:
            continue
        url = raw.replace(b"\\/", b"/")
        new = None if b"\\" in url else resolve(url)
        if new is not None:
            if b"\\/" in raw:
                new = new.replace(b"/", b"\\/")
            made += (body[gone : found.start(1)], new)
            gone = found.end(1)
    return b"".join([*made, body[gone:]]) if made else body
