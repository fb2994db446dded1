"""Answers in Base44's shape, which its SDK and command line read.

A refusal is flat: ``message`` and ``detail`` say what is wrong (the command line shows the first, the SDK
either), ``code`` is for programs, and the other members are those of problem details (RFC 9457).
"""

import json
import math
from collections.abc import Mapping

from aiohttp import hdrs, web

from proxy import errors
from proxy.errors import ConnectorProxyError, RequestError
from proxy.problems import PROXY_NAME, TYPE_PREFIX, Headers, Problem, row

NOT_CONNECTED = Problem(404, "NOT_FOUND", "Not connected", "proxy_internal_response")
"""Base44's own status and code for a connector without a connection."""
FOREIGN_APP = Problem(401, "foreign_app", "Another app", "http_request_denied")
NOT_SERVED = Problem(404, "not_served", "Not served", "http_request_error")
APP_USERS = Problem(
    501, "app_user_connectors_unsupported", "App-user connectors are not supported", "http_request_error"
)
STRIPE = Problem(501, "stripe_unsupported", "Stripe is not supported", "http_request_error")
NOT_SET_UP = Problem(428, "not_set_up", "Not set up", "proxy_configuration_error")
NOT_IN_VAULT = Problem(409, "not_in_vault", "Not in the vault", "proxy_configuration_error")
VAULT_UNAVAILABLE = Problem(503, "vault_unavailable", "Vault unavailable", "proxy_internal_error")

_OTHERWISE: Mapping[type[RequestError], Problem] = {errors.NotConnected: NOT_CONNECTED}


class Refusal(ConnectorProxyError):  # noqa: N818  # named for what it is, as the errors of requests are
    """What only these calls refuse. ``detail`` is shown; ``retry_after``: seconds."""

    def __init__(self, entry: Problem, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.entry = entry
        self.detail = detail
        self.retry_after = retry_after


def entry_of(error: RequestError | Refusal) -> Problem:
    """Status and code of a refusal."""
    if isinstance(error, Refusal):
        return error.entry
    return next((_OTHERWISE[kind] for kind in type(error).__mro__ if kind in _OTHERWISE), row(error))


def refusal(
    error: RequestError | Refusal, *, request_id: str, more: Mapping[str, object] | None = None
) -> web.Response:
    """The answer to a call that was refused; ``more`` are further members."""
    entry = entry_of(error)
    members: dict[str, object] = {
        "type": TYPE_PREFIX + entry.code,
        "title": entry.title,
        "status": entry.status,
        "code": entry.code,
        "message": error.detail,
        "detail": error.detail,
        "instance": request_id,
        **(more or {}),
    }
    extra: Headers = entry.headers
    if error.retry_after is not None:
        extra = (*extra, (b"Retry-After", str(max(1, math.ceil(error.retry_after))).encode()))
    made = document(members, status=entry.status)
    made.headers["Proxy-Status"] = f"{PROXY_NAME}; error={entry.proxy_status}"
    made.headers["X-Request-ID"] = request_id  # where the command line looks for it
    for name, value in extra:
        made.headers[name.decode()] = value.decode()
    return made


def document(members: Mapping[str, object], *, status: int = 200) -> web.Response:
    """A JSON object; nothing keeps it.

    Raises:
        ValueError, RecursionError: a number that JSON does not have, or nested too deep.
    """
    return web.Response(
        status=status,
        body=json.dumps(members, allow_nan=False).encode(),
        headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"},
    )
