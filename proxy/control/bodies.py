"""JSON bodies of requests on the control plane: of some size at most, and JSON to the letter."""

import json
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from proxy.errors import BodyTooLarge


async def read_bytes(request: web.Request, most: int) -> bytes:
    """The body.

    Raises:
        BodyTooLarge: over ``most`` bytes.
        ValueError: it is cut, or its transfer coding is malformed.
    """
    too_large = f"the body is over {most} bytes"
    if (request.content_length or 0) > most:
        raise BodyTooLarge(too_large)
    found = bytearray()
    try:
        async for chunk in request.content.iter_any():
            found += chunk
            if len(found) > most:
                raise BodyTooLarge(too_large)
    except (web.RequestPayloadError, HttpProcessingError):
        raise ValueError("is cut or malformed") from None
    return bytes(found)


def parse_json(raw: bytes) -> Any:
    """What a body says.

    Raises:
        ValueError: no JSON (RFC 8259), a name twice, a number or half a surrogate pair that no JSON can hold,
            or nested too deep.
    """
    try:
        found = json.loads(raw, object_pairs_hook=_once)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # what cannot be written was none
    except (ValueError, RecursionError):
        raise ValueError("is no JSON (RFC 8259) in UTF-8 with each name once") from None
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found
