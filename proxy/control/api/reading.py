"""A request of the admin API, read and held against its operation's schemas; every fault at once."""

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web

from proxy import problems
from proxy.control.api.door import Asker
from proxy.control.api.refusals import Refused
from proxy.control.bodies import parse_json, read_bytes
from proxy.errors import Fault
from proxy.operations import fields
from proxy.operations.operation import Asked, Endpoint, Schema
from proxy.operations.schema import faults_of

MAX_BODY = 262_144
_WHOLE = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_FLAGS = {"true": True, "false": False}
_INVALID = "the request does not have the form that /api/v1/openapi.json says"


async def read_request(request: web.Request, operation: Endpoint, asker: Asker) -> Asked:
    """What is asked.

    Raises:
        Refused: it is not of the operation's form.
        BodyTooLarge: over ``MAX_BODY``.
    """
    path = dict(request.match_info)
    faults = [fault for name in path for fault in faults_of(fields.PATH[name], path[name], name)]
    query = _query(request, operation, faults)
    body = await _body(request, operation)
    if operation.body is not None:
        faults += faults_of(operation.body, body, "")
    if faults:
        raise Refused(problems.INVALID_REQUEST, _INVALID, [_named(fault) for fault in faults])
    return Asked(asker.actor, path, query, body, asker.scopes)


def _named(fault: Fault) -> Fault:
    return Fault(fault.place or "body", fault.message)


def _query(request: web.Request, operation: Endpoint, faults: list[Fault]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    given = request.rel_url.query
    for name in dict.fromkeys(given):
        values = given.getall(name)
        found[name] = values[0]
        if len(values) > 1:
            faults.append(Fault(f"query.{name[:60]}", "is there twice"))
        elif name in operation.query:
            found[name] = _of_text(values[0], operation.query[name])
    schema = fields.given(operation.query)
    faults += [Fault(f"query.{fault.place}", fault.message) for fault in faults_of(schema, found, "")]
    return found


def _of_text(text: str, schema: Schema) -> object:
    if schema["type"] == "integer" and _WHOLE.fullmatch(text):
        return int(text)
    if schema["type"] == "boolean":
        return _FLAGS.get(text, text)
    return text


async def _body(request: web.Request, operation: Endpoint) -> Mapping[str, Any]:
    if operation.body is not None:
        _check_type(request)
    try:
        raw = await read_bytes(request, MAX_BODY)
        found = parse_json(raw) if operation.body is not None else {}
    except ValueError as error:
        raise Refused(problems.INVALID_REQUEST, _INVALID, [Fault("body", str(error))]) from None
    if operation.body is None and raw:
        raise Refused(problems.INVALID_REQUEST, _INVALID, [Fault("body", "this takes none")])
    return found  # its form is judged next


def _check_type(request: web.Request) -> None:
    given = request.content_type if hdrs.CONTENT_TYPE in request.headers else ""
    coded = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if given != "application/json" or (request.charset or "utf-8").lower() != "utf-8" or coded != "identity":
        raise Refused(
            problems.UNSUPPORTED_MEDIA_TYPE,
            "the body has to be application/json in UTF-8, without a content coding",
            headers={"Accept": "application/json"},
        )
