"""The OpenAPI 3.1 document of the admin API, made from the table that also checks requests."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from proxy import __version__, problems
from proxy.admintokens import SCOPES
from proxy.control.api.creation import HEADER, REPLAYED
from proxy.control.api.door import CSRF_HEADER
from proxy.operations import fields
from proxy.operations.operation import Endpoint, Schema, Stream
from proxy.problems import Problem

_PART = re.compile(r"\{([a-z]+)\}")
_ALWAYS = (
    problems.INVALID_REQUEST,
    problems.INVALID_TOKEN,
    problems.INSUFFICIENT_SCOPE,
    problems.NOT_ACCEPTED,
    problems.VAULT_UNAVAILABLE,
)
_WITH_BODY = (problems.UNSUPPORTED_MEDIA_TYPE, problems.TOO_LARGE)
_NAMED = (problems.NOT_FOUND, problems.CONFLICT)
_DESCRIPTION = """What the command line and the dashboard do, for programs.

Send `Authorization: Bearer` and an admin token, which `connector-proxy tokens create NAME --scope SCOPE` \
makes and shows once. A token has one or more scopes; `admin` is all of them. Lists come in pages: `next` is \
the `cursor` of the following one. A creation with an `Idempotency-Key` may be repeated for a day and has \
the same answer, keys that are shown once too; with another body it is refused (422), and while the first is \
under way as well (409). Unknown fields and parameters are refused by name. Errors are problem details \
(RFC 9457) with a stable `code`, and `errors` by field: 400 is not of the form that this document says, 422 \
of that form and yet not to be done."""


def openapi(endpoints: Sequence[Endpoint], *, cookie: str) -> Mapping[str, Any]:
    """The document. ``cookie``: the name of a signed-in browser's."""
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "connector-proxy admin API",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(one) for one in endpoints)],
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": f"Scopes: {', '.join(SCOPES)}"},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie},
                "csrf": {"type": "apiKey", "in": "header", "name": CSRF_HEADER},
            },
        },
    }


_PROBLEM: Schema = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "instance"],
    "properties": {
        "type": fields.STRING,
        "title": fields.STRING,
        "status": fields.NUMBER,
        "detail": fields.STRING,
        "code": fields.STRING,
        "instance": {"type": "string", "description": "The request's id, also in the log"},
        "errors": {
            "type": "array",
            "items": fields.told({"field": fields.STRING, "message": fields.STRING}),
        },
    },
}


def _tag(one: Endpoint) -> str:
    return one.name.partition(".")[0]


def _operation(one: Endpoint) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "operationId": one.name.replace(".", "_"),
        "tags": [_tag(one)],
        "summary": one.summary,
        "description": f"Scope: {' or '.join(one.scopes)}.",
        "security": [
            *({"token": [scope]} for scope in one.scopes),
            {"session": [], **({} if one.method == "GET" else {"csrf": []})},
        ],
        "responses": _responses(one),
    }
    parameters = [
        *(_parameter(name, fields.PATH[name], "path") for name in _PART.findall(one.path)),
        *(_parameter(name, schema, "query") for name, schema in one.query.items()),
        *([_IDEMPOTENCY] if one.creates else ()),
    ]
    if parameters:
        found["parameters"] = parameters
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": one.body}}}
    return found


def _parameter(name: str, schema: Schema, place: str) -> Mapping[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


_IDEMPOTENCY: Mapping[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A text of your own, once for each creation: draft-ietf-httpapi-idempotency-key-header",
    "schema": {"type": "string", "pattern": r'^"[ !#-\[\]-~]{1,255}"$'},
}


def _responses(one: Endpoint) -> Mapping[str, Any]:
    went_well: dict[str, Any] = {
        "description": "Created" if one.creates else "Done",
        "content": _told_by(one),
    }
    if one.creates:
        went_well["headers"] = {
            REPLAYED: {"description": "There when the answer is the first one's", "schema": fields.STRING}
        }
    rows: list[Problem] = [*_ALWAYS]
    if one.body is not None:
        rows += _WITH_BODY
    if "{" in one.path:
        rows += _NAMED
    if one.creates:
        rows += [problems.NOT_FOUND, problems.CONFLICT]
    refused = {str(row.status): _refusal(row) for row in sorted(rows, key=lambda row: row.status)}
    return {str(one.status): went_well, **refused}


def _told_by(one: Endpoint) -> Mapping[str, Any]:
    if not isinstance(one, Stream):
        return {"application/json": {"schema": one.answer}}
    # as OpenAPI 3.2 describes streams: the schema is that of one event
    return {"text/event-stream": {"schema": {"oneOf": [_event(*named) for named in one.events.items()]}}}


def _event(name: str, data: Schema) -> Schema:
    content = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return {
        "type": "object",
        "properties": {"event": {"const": name}, "data": content, "id": fields.STRING},
        "required": ["event", "data"],
    }


def _refusal(row: Problem) -> Mapping[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": row.title, "content": {"application/problem+json": {"schema": schema}}}
