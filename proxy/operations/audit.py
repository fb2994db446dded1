"""The audit: who changed or revealed what, and when."""

from collections.abc import Mapping

from proxy.connectors.audit import LAST, AuditEntry, Mark
from proxy.errors import ConfigurationError, Fault
from proxy.operations import fields, paging
from proxy.operations.moments import parse_since, rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation

_DIGITS = 15


def audit_document(one: AuditEntry) -> Mapping[str, object]:
    """A row as it is listed."""
    return {
        "at": rfc3339(one.at),
        "actor": one.actor,
        "action": one.action,
        "subject": one.subject,
        "detail": dict(one.detail),
    }


# --- operations ---------------------------------------------------------------------------------------


async def _list(ground: Ground, asked: Asked) -> Document:
    if ground.held is None:
        return {"items": [], "next": None}
    begin = parse_since(asked.query["since"], now=ground.now) if "since" in asked.query else 0.0
    found = await ground.vault.audit(since=begin, before=_before(asked), limit=paging.limit_of(asked) + 1)
    return paging.page_document(asked, found, _position, audit_document)


def _position(one: AuditEntry) -> paging.Position:
    return f"{round(one.at * 1000):0{_DIGITS}d}", one.audit_id


def _before(asked: Asked) -> Mark:
    position = paging.after_of(asked, 2)
    if position is None:
        return LAST
    at, audit_id = position
    if not (at.isascii() and at.isdigit() and len(at) == _DIGITS and audit_id.isprintable()):
        raise ConfigurationError(Fault("cursor", "is none that a page of this list gave as next"))
    return int(at), audit_id


OPERATIONS = (
    Operation(
        "audit.list",
        "GET",
        "/audit",
        "Who changed or revealed what, newest first; kept for 90 days",
        ("read",),
        fields.page_of(
            fields.told(
                {
                    "at": fields.TIME,
                    "actor": fields.STRING,
                    "action": fields.STRING,
                    "subject": fields.STRING,
                    "detail": {"type": "object"},
                }
            )
        ),
        _list,
        query={
            **fields.ONE_BY_ONE,
            "since": {**fields.MOMENT, "description": "From 7d or 12h ago, or from a time with offset on"},
        },
    ),
)
