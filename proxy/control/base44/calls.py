"""``callApi``: one request to a service, made by the data path with the account's token, told as a document.

What the proxy refuses is an HTTP error; what the service answers, or fails to, is told in a 200 with
its ``phase``.
"""

import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web

from proxy.catalog.model import Service
from proxy.control.base44.answers import document
from proxy.control.base44.asking import Asker
from proxy.control.base44.served import Served
from proxy.control.bodies import parse_json, read_bytes
from proxy.errors import BadRequest, UpstreamError
from proxy.forwarding.handler.calls import Call, Reply
from proxy.problems import row

_MAX_BODY = 2**20
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})
_HOST = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
_PATH = re.compile(r"/(?!~)[!-~]*", re.ASCII)
_VALUE = re.compile(r"[\t -~]*", re.ASCII)
_BODILESS = frozenset({"GET", "HEAD"})
# Both lists are short on purpose: what is not on them is dropped without a word, as Base44 does.
_SENT = frozenset(
    {"accept", "accept-language", "content-type", "idempotency-key", "prefer", "range"}
    | {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "consistencylevel"}
)
_SHOWN = frozenset(
    {"etag", "last-modified", "link", "location", "retry-after", "content-range", "content-disposition"}
    | {"x-request-id", "request-id"}
)
_RATE = re.compile(r"(?:x-)?rate-?limit", re.ASCII)
Make = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class CallApi:
    """``POST connectors/{type}/call``. ``make`` sends a request on the data path."""

    served: Served
    make: Make

    async def answer(self, request: web.Request, asker: Asker) -> web.Response:
        """The service's answer, or how far the request came."""
        service = self.served.service(request.match_info["type"])
        call = _call(await _body_of(request), service, asker)
        reply = await self.make(call)
        refused = reply.refused
        if refused is not None and reply.phase == "not_sent" and not isinstance(refused, UpstreamError):
            raise refused
        told = _told(reply, service)
        try:
            return document({**told, **_data(reply.body, reply.headers.get("Content-Type", ""))})
        except (ValueError, RecursionError):  # what we cannot write as JSON goes on as it came
            return document({**told, **_in_base64(reply.body)})


async def _body_of(request: web.Request) -> Mapping[str, Any]:
    try:
        given = parse_json(await read_bytes(request, _MAX_BODY))
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise BadRequest("the body must be a JSON object: method, path, and maybe host, query, headers, body")
    return given


def _call(given: Mapping[str, Any], service: Service, asker: Asker) -> Call:
    """The request as the data path takes it.

    Raises:
        BadRequest: naming the member that is wrong.
    """
    method, host, path = given.get("method") or "GET", given.get("host"), given.get("path")
    if not isinstance(method, str) or method not in _METHODS:
        raise BadRequest(f"method must be one of {', '.join(sorted(_METHODS))}")
    if host is not None and (not isinstance(host, str) or _HOST.fullmatch(host) is None):
        raise BadRequest("host must be the short name of one of the service's hosts")
    if not isinstance(path, str) or _PATH.fullmatch(path) is None or "#" in path:
        raise BadRequest("path must begin with '/' (not '/~') and be printable ASCII without '#'")
    connection = asker.connection_of(service.type_id)
    target = service.type_id + ("" if connection is None else f"@{connection}")
    target = f"/{target}{'' if host is None else f'/~{host}'}{path}"
    query = _query(given.get("query") or {})
    if query:
        target += ("&" if "?" in path else "?") + query
    headers = _headers(given.get("headers") or {}, service)
    body = None if method in _BODILESS else given.get("body")
    data: bytes | None = None
    if body is not None:
        kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
        if isinstance(body, str) and kind and "json" not in kind:
            data = body.encode()
        else:
            data = json.dumps(body).encode()
            headers = headers if kind else {**headers, "Content-Type": "application/json"}
    headers = {**headers, "Authorization": f"Bearer {asker.key.decode()}"}
    return Call(method, target, asker.peer, headers, data)


def _query(given: object) -> str:
    if not isinstance(given, dict):
        raise BadRequest("query must be an object")
    pairs = [
        (name, json.dumps(one) if isinstance(one, bool) else str(one))
        for name, value in given.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None and not isinstance(one, dict | list)
    ]
    return urlencode(pairs, quote_via=quote)


def _headers(given: object, service: Service) -> dict[str, str]:
    if not isinstance(given, dict) or not all(
        isinstance(value, str) and _VALUE.fullmatch(value) for value in given.values()
    ):
        raise BadRequest("headers must be an object of printable ASCII texts")
    known = _SENT | {name.lower() for name, _ in service.headers}
    return {name: value for name, value in given.items() if name.lower() in known}


def _told(reply: Reply, service: Service) -> dict[str, object]:
    counters = {name.lower() for name in service.rate_limit.headers}
    has_all = reply.phase == "responded" and reply.refused is None
    shown = {
        name.lower(): value
        for name, value in reply.headers.items()
        if name.lower() in _SHOWN or name.lower() in counters or _RATE.match(name.lower())
    }
    told: dict[str, object] = {
        "success": has_all and reply.status is not None and reply.status // 100 == 2,  # noqa: PLR2004  # 2xx
        "phase": reply.phase,
        "status_code": reply.status,
        "data": None,
        "data_base64": None,
        "content_type": reply.headers.get("Content-Type"),
        "headers": shown,
        "credits_charged": 0,
    }
    if reply.refused is not None:
        told["error"] = {"code": row(reply.refused).code, "message": reply.refused.detail}
    return told


def _data(body: bytes, content_type: str) -> dict[str, object]:
    """JSON as it is, text as text, anything else in base64.

    Raises:
        ValueError, RecursionError: it is not what its type says, or nested too deep.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        return {}
    if kind.endswith(("/json", "+json")):
        return {"data": json.loads(body)}
    if kind.startswith("text/") or kind.endswith(("/xml", "+xml")) or not kind:
        return {"data": body.decode()}
    return _in_base64(body)


def _in_base64(body: bytes) -> dict[str, object]:
    return {"data_base64": base64.b64encode(body).decode()}
