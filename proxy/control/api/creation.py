"""Creations that a program may repeat: ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header)."""

import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy import problems
from proxy.connectors.vault import Vault
from proxy.control import once
from proxy.control.api.refusals import RETRY_S, Refused
from proxy.control.once import Once, OtherRequestError, UnderWayError
from proxy.errors import Fault
from proxy.operations.operation import Document

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_S = 86_400.0
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)  # RFC 9651 section 3.3.3
_BARE = re.compile(r"[!#-~]+", re.ASCII)  # what most clients send
_MAX = 255


def key_of(request: web.Request) -> str | None:
    """The request's idempotency key, or None.

    Raises:
        Refused: it is malformed, or there are two.
    """
    given = request.headers.getall(HEADER, [])
    if not given:
        return None
    text = given[0].strip()
    quoted = _STRING.fullmatch(text)
    key = quoted.group(1) if quoted is not None else text if _BARE.fullmatch(text) else ""
    if len(given) != 1 or not 0 < len(key) <= _MAX:
        message = f'is one text of up to {_MAX} characters, such as "8e03978e-40d5-43dd-bc93-6894a57f9324"'
        raise Refused(problems.INVALID_REQUEST, "the idempotency key is malformed", [Fault(HEADER, message)])
    return key


async def create(
    vault: Vault, asked: Once, now: float, run: Callable[[], Awaitable[Document]]
) -> tuple[Document, bool]:
    """Run a creation, or give the answer that it had before; and whether it had one.

    Raises:
        Refused: the key came with another request, or the first one is still under way.
        StoreError: see Vault.
    """
    try:
        return await once.create(vault, asked, now, run, kept_s=KEPT_S)
    except OtherRequestError:
        raise Refused(
            problems.IDEMPOTENCY_KEY_REUSED, "this idempotency key came with another request before"
        ) from None
    except UnderWayError:
        raise Refused(
            problems.IDEMPOTENCY_IN_PROGRESS,
            "the first request with this idempotency key is not answered yet",
            headers={"Retry-After": str(RETRY_S)},
        ) from None
