"""The one table from an error to its answer: status, code, title, ``Proxy-Status`` token.

Bodies are problem details (RFC 9457). The control plane says ``application/problem+json``. The data plane
says plain ``application/json`` without a charset, because SDKs compare the media type byte for byte, and adds
the two places where most of them look for a text: ``message`` and ``error.message``.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape as escape_xml

from proxy import errors
from proxy.catalog.model import ErrorShape
from proxy.errors import RequestError

Plane = Literal["data", "control"]
Headers = tuple[tuple[bytes, bytes], ...]

TYPE_PREFIX = "urn:connector-proxy:problem:"
PROXY_NAME = "connector-proxy"
_CONTENT_TYPES: Mapping[Plane, str] = {"data": "application/json", "control": "application/problem+json"}
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """One row: what a kind of failure is called towards callers.

    ``proxy_status`` is an error type of RFC 9209 §2.3; ``headers`` go out with every answer of the row.
    """

    status: int
    code: str
    title: str
    proxy_status: str
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer made by the proxy: ``headers`` lack only connection management, ``body`` is never empty."""

    status: int
    headers: Headers
    body: bytes


# With a realm: httplib2 takes a scheme without parameters for malformed and shows no error text at all.
_CHALLENGE = ((b"WWW-Authenticate", b'Bearer realm="connector-proxy"'),)
_METHODS = ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),)
_WEBSOCKET = ((b"Sec-WebSocket-Version", b"13"),)  # RFC 6455 §4.4

PROBLEMS: Mapping[type[RequestError], Problem] = {
    errors.BadRequest: Problem(400, "bad_request", "Bad request", "http_request_error"),
    errors.AmbiguousTarget: Problem(400, "ambiguous_target", "Ambiguous target", "http_request_error"),
    errors.AmbiguousKey: Problem(400, "ambiguous_key", "Two proxy keys", "http_request_error"),
    errors.InvalidKey: Problem(401, "invalid_key", "Invalid proxy key", "http_request_denied", _CHALLENGE),
    errors.NotPermitted: Problem(403, "not_permitted", "Not permitted", "http_request_denied"),
    errors.CredentialPath: Problem(403, "credential_path", "Credential path", "http_request_denied"),
    errors.UnknownService: Problem(404, "unknown_service", "Unknown service", "destination_not_found"),
    errors.MethodNotAllowed: Problem(
        405, "method_not_allowed", "Method not allowed", "http_request_denied", _METHODS
    ),
    errors.RequestTimeout: Problem(408, "request_timeout", "Request timeout", "http_request_error"),
    errors.BodyTooLarge: Problem(413, "body_too_large", "Body too large", "http_request_error"),
    errors.TargetTooLong: Problem(414, "target_too_long", "Target too long", "http_request_error"),
    errors.ExpectationFailed: Problem(417, "expectation_failed", "Expectation failed", "http_request_error"),
    errors.HeadersTooLarge: Problem(431, "headers_too_large", "Headers too large", "http_request_error"),
    errors.UnsupportedTransferCoding: Problem(
        501, "unsupported_transfer_coding", "Unsupported transfer coding", "http_request_error"
    ),
    errors.UpgradeUnsupported: Problem(
        501, "upgrade_unsupported", "Upgrade not supported", "http_upgrade_failed"
    ),
    errors.UnsupportedWebSocket: Problem(
        400, "websocket_version", "Unsupported WebSocket version", "http_upgrade_failed", _WEBSOCKET
    ),
    errors.AmbiguousConnection: Problem(
        409, "ambiguous_connection", "Ambiguous connection", "proxy_internal_response"
    ),
    errors.NotConnected: Problem(424, "not_connected", "Not connected", "proxy_internal_response"),
    errors.ReauthorizationRequired: Problem(
        424, "reauthorization_required", "Reauthorization required", "proxy_internal_response"
    ),
    errors.ConnectionConfigMissing: Problem(
        424, "connection_config_missing", "Connection config missing", "proxy_internal_response"
    ),
    errors.RateLimited: Problem(429, "rate_limited", "Rate limited", "http_request_denied"),
    errors.UpstreamCoolingDown: Problem(
        429, "upstream_cooling_down", "Service cooling down", "destination_unavailable"
    ),
    errors.RefreshFailed: Problem(503, "refresh_failed", "Refresh failed", "proxy_internal_response"),
    errors.RefreshInProgress: Problem(
        503, "refresh_in_progress", "Refresh in progress", "proxy_internal_response"
    ),
    errors.Overloaded: Problem(503, "overloaded", "Overloaded", "connection_limit_reached"),
    errors.UpstreamUnreachable: Problem(
        502, "upstream_unreachable", "Service unreachable", "destination_unavailable"
    ),
    errors.UpstreamTls: Problem(
        502, "upstream_tls", "Service certificate or TLS failure", "tls_protocol_error"
    ),
    errors.UpstreamProtocol: Problem(
        502, "upstream_protocol", "Service protocol failure", "http_protocol_error"
    ),
    errors.AddressRefused: Problem(
        502, "address_refused", "Service address refused", "destination_ip_prohibited"
    ),
    errors.CredentialInvalid: Problem(
        502, "credential_invalid", "Credential invalid", "proxy_configuration_error"
    ),
    errors.UpstreamTimeout: Problem(504, "upstream_timeout", "Service timeout", "http_response_timeout"),
}
"""Every leaf of :class:`RequestError`, and nothing else."""

INTERNAL = Problem(500, "internal_error", "Internal error", "proxy_internal_error")
"""For what no row foresees: a fault of ours, never of the request. Its detail tells nothing."""

NOT_FOUND = Problem(404, "not_found", "Not found", "http_request_error")
MISDIRECTED = Problem(421, "misdirected_request", "Misdirected request", "http_request_denied")
"""Of the control plane: no such page or thing; a ``Host`` that is not ours (RFC 9110 §15.5.20)."""

INVALID_REQUEST = Problem(400, "invalid_request", "Invalid request", "http_request_error")
INVALID_TOKEN = Problem(401, "invalid_token", "Admin token needed", "http_request_denied", _CHALLENGE)
INSUFFICIENT_SCOPE = Problem(403, "insufficient_scope", "Not allowed", "http_request_denied")
CONFLICT = Problem(409, "conflict", "Conflict", "http_request_error")
IDEMPOTENCY_IN_PROGRESS = Problem(409, "idempotency_in_progress", "Not answered yet", "http_request_error")
UNSUPPORTED_MEDIA_TYPE = Problem(
    415, "unsupported_media_type", "Unsupported media type", "http_request_error"
)
NOT_ACCEPTED = Problem(422, "not_accepted", "Not accepted", "http_request_error")
IDEMPOTENCY_KEY_REUSED = Problem(
    422, "idempotency_key_reused", "Idempotency key used before", "http_request_error"
)
VAULT_UNAVAILABLE = Problem(503, "vault_unavailable", "Vault not available", "proxy_internal_error")
TOO_LARGE = PROBLEMS[errors.BodyTooLarge]
"""Of the admin API. 400: not of the form that its document says; 422: of that form, yet not to be done."""

CODES: tuple[str, ...] = (*(row.code for row in PROBLEMS.values()), INTERNAL.code)
"""All codes: the bounded set that logs and metrics may carry."""


def row(error: RequestError) -> Problem:
    """The row of an error; a subclass of a leaf has its leaf's, anything unforeseen is :data:`INTERNAL`."""
    return next((PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS), INTERNAL)


def problem(
    error: RequestError,
    *,
    request_id: str,
    plane: Plane,
    connect_url: str | None = None,
    shape: ErrorShape | None = None,
) -> Answer:
    """The whole answer to a request that failed.

    Args:
        error: ``detail`` is shown, ``retry_after`` (seconds) becomes ``Retry-After``, rounded up.
        request_id: becomes ``instance``.
        plane: decides the media type and the members.
        connect_url: where a person connects the account, for an account's error.
        shape: the service's own error shape, on the data plane once the service is known.
    """
    entry = row(error)
    extra = entry.headers
    if error.retry_after is not None:
        extra = (*extra, (b"Retry-After", str(max(1, math.ceil(error.retry_after))).encode()))
    detail = error.detail if entry is not INTERNAL else INTERNAL_DETAIL
    if shape is not None and shape.template and plane == "data":
        message = f"{detail} Connect it here: {connect_url}" if connect_url else detail
        body = _shaped(shape, entry, message=message, request_id=request_id)
        status, content_type = shape.status_for(entry.status), shape.content_type
        return _answer(entry, body, status=status, content_type=content_type, plane=plane, extra=extra)
    body = _body(entry, detail=detail, request_id=request_id, plane=plane, connect_url=connect_url)
    content_type = _CONTENT_TYPES[plane]
    return _answer(entry, body, status=entry.status, content_type=content_type, plane=plane, extra=extra)


INTERNAL_DETAIL = "the proxy failed; the request id finds the event in its log"


def internal(*, request_id: str, plane: Plane) -> Answer:
    """The answer to an exception that is no :class:`RequestError`."""
    return plain(INTERNAL, INTERNAL_DETAIL, request_id=request_id, plane=plane)


def plain(
    entry: Problem, detail: str, *, request_id: str, plane: Plane, faults: Sequence[errors.Fault] = ()
) -> Answer:
    """The answer of a row that no error stands for. ``faults`` become ``errors``, by field."""
    body = _body(entry, detail=detail, request_id=request_id, plane=plane, connect_url=None, faults=faults)
    content_type = _CONTENT_TYPES[plane]
    return _answer(
        entry, body, status=entry.status, content_type=content_type, plane=plane, extra=entry.headers
    )


_TAG: Mapping[int, Mapping[str, str]] = {401: {".tag": "other"}}
"""Dropbox's SDK dies on a 401 without it, and a bad key gets no service's own shape."""


def _body(
    entry: Problem,
    *,
    detail: str,
    request_id: str,
    plane: Plane,
    connect_url: str | None,
    faults: Sequence[errors.Fault] = (),
) -> bytes:
    members: dict[str, object] = {
        "type": TYPE_PREFIX + entry.code,
        "title": entry.title,
        "status": entry.status,
        "detail": detail,
        "code": entry.code,
        "instance": request_id,
    }
    if connect_url:
        members["connect_url"] = connect_url
    if faults:
        members["errors"] = [{"field": fault.place, "message": fault.message} for fault in faults]
    if plane == "data":
        members["message"] = detail
        members["error"] = {"code": entry.code, "message": detail, **_TAG.get(entry.status, {})}
    return json.dumps(members).encode()


def _shaped(shape: ErrorShape, entry: Problem, *, message: str, request_id: str) -> bytes:
    """The service's template, filled in one pass with values escaped for its media type."""
    values = {
        "code": entry.code,
        "message": message,
        "status": str(shape.status_for(entry.status)),
        "service_code": shape.code_for(entry.status),
        "title": entry.title,
        "request_id": request_id,
    }
    escape = _escaper(shape.content_type)
    return _PLACE.sub(lambda hit: escape(values[hit.group(1)]), shape.template).encode("utf-8", "replace")


_PLACE = re.compile(r"\{(code|message|status|service_code|title|request_id)\}")


def _escape_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _escape_markup(text: str) -> str:
    return escape_xml(_CONTROL_CHARACTERS.sub(" ", text), {'"': "&quot;", "'": "&apos;"})


def _escape_plain(text: str) -> str:
    return _CONTROL_CHARACTERS.sub(" ", text)


def _escaper(content_type: str) -> Callable[[str], str]:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.endswith(("/json", "+json")):
        return _escape_json
    return _escape_markup if media_type.endswith(("/xml", "+xml", "/html")) else _escape_plain


def _answer(
    entry: Problem, body: bytes, *, status: int, content_type: str, plane: Plane, extra: Headers
) -> Answer:
    headers: Headers = (
        (b"Content-Type", content_type.encode("ascii")),
        (b"Content-Length", str(len(body)).encode()),
        (b"Cache-Control", b"no-store"),
        (b"Proxy-Status", f"{PROXY_NAME}; error={entry.proxy_status}".encode()),
        *extra,
    )
    if plane == "data":  # discord.py takes a 429 without Via for a ban by the edge and gives up
        headers = (*headers, (b"Via", f"1.1 {PROXY_NAME}".encode()))
    return Answer(status, headers, body)
