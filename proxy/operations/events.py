"""Requests as they happen: not an operation that ends, so it is in no table of them."""

from proxy.operations import fields
from proxy.operations.operation import Schema, Stream

_SECONDS: Schema = {"type": ["number", "null"], "description": "Null for what it did not come to"}
_REQUEST = fields.told(
    {
        "timestamp": fields.TIME,
        "request_id": fields.STRING,
        "method": fields.STRING,
        "path": {"type": "string", "description": "Without the query"},
        "status": fields.NUMBER,
        "outcome": fields.STRING,
        "bytes_in": fields.NUMBER,
        "bytes_out": fields.NUMBER,
        "duration_ms": {"type": "number"},
        "spent": fields.told(dict.fromkeys(("queue", "token", "connect", "first_byte", "total"), _SECONDS)),
    }
)

EVENTS = Stream(
    "events.watch",
    "/events",
    "Requests as they happen, as server-sent events; what happened before is not told",
    ("read",),
    {
        "request": _REQUEST,
        "lost": fields.told({"count": {"type": "integer", "description": "Requests of any kind not told"}}),
        "end": fields.told(
            {"reason": fields.chosen("Why nothing follows", "credential", "closing", "time", "vault")}
        ),
    },
    query={
        "service": fields.SERVICE,
        "key": fields.text("A key's id, exactly", most=80, least=1),
        "status": fields.text("How the status begins: 4, 50, 404", most=3, pattern=r"^[1-5][0-9]{0,2}$"),
        "origin": fields.chosen("Only errors, made by", "proxy", "service"),
        "seconds": fields.whole("To end after; unless said it goes on", least=0, most=86_400),
    },
)
