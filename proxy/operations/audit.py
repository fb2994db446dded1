"""The audit: who changed or revealed what, and when; and whether it is as it was written."""

import contextlib
from collections.abc import Mapping

from proxy.connectors.audit import About, AuditEntry, Mark
from proxy.connectors.audit_log import ChainReport, Remembered
from proxy.errors import ConfigurationError, Fault, MissingError
from proxy.operations import fields, paging
from proxy.operations.keys import find_key
from proxy.operations.moments import parse_since, rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation

_DIGITS = 15
_ABOUT = ("actor", "action", "subject", "key", "user", "connection")


def audit_document(one: AuditEntry) -> Mapping[str, object]:
    """A row as it is listed."""
    return {
        "at": rfc3339(one.at),
        "actor": one.actor,
        "action": one.action,
        "subject": one.subject,
        "detail": dict(one.detail),
        "number": one.number,
        "hash": one.hash,
    }


def chain_document(report: ChainReport) -> Mapping[str, object]:
    """What was found as it is told."""
    return {
        "intact": not report.fault_count,
        "head": f"{report.number}:{report.hash}",
        "since": rfc3339(report.begun_at),
        "rows": report.rows,
        "dropped": report.pruned,
        "late": report.late,
        "unchained": report.loose,
        "unchained_last": rfc3339(report.loose_last),
        "faults": [
            {"first": fault.first, "last": fault.last, "message": fault.what} for fault in report.faults
        ],
        "fault_count": report.fault_count,
    }


# --- operations ---------------------------------------------------------------------------------------


async def _list(ground: Ground, asked: Asked) -> Document:
    if ground.held is None:
        return {"items": [], "next": None}
    query = asked.query
    found = await ground.vault.audit(
        since=parse_since(query["since"], now=ground.now) if "since" in query else 0.0,
        until=parse_since(query["until"], now=ground.now, place="until") if "until" in query else None,
        about=_about(ground, query),
        start=_start(asked),
        oldest_first=query.get("order") == "oldest",
        limit=paging.limit_of(asked) + 1,
    )
    return paging.page_document(asked, found, _position, audit_document)


def _about(ground: Ground, query: Mapping[str, str]) -> About:
    wanted = {name: query[name] for name in _ABOUT if name in query}
    if "key" in wanted:
        with contextlib.suppress(MissingError):  # of one that was declared once, the id is all there is
            wanted["key"] = find_key(ground.keys().values(), wanted["key"], declared=True).key_id
    return About(**wanted)


def _position(one: AuditEntry) -> paging.Position:
    return f"{round(one.at * 1000):0{_DIGITS}d}", one.audit_id


def _start(asked: Asked) -> Mark | None:
    position = paging.after_of(asked, 2)
    if position is None:
        return None
    at, audit_id = position
    if not (at.isascii() and at.isdigit() and len(at) == _DIGITS and audit_id.isprintable()):
        raise ConfigurationError(Fault("cursor", "is none that a page of this list gave as next"))
    return int(at), audit_id


async def _verify(ground: Ground, asked: Asked) -> Document:
    return chain_document(await ground.vault.verify_audit(_remembered(asked.query.get("head"))))


def _remembered(text: str | None) -> Remembered | None:
    if text is None:
        return None
    number, _, stored = text.partition(":")
    return int(number), stored


OPERATIONS = (
    Operation(
        "audit.list",
        "GET",
        "/audit",
        "Who changed or revealed what, newest first unless asked otherwise",
        ("read",),
        fields.page_of(
            fields.told(
                {
                    "at": fields.TIME,
                    "actor": fields.STRING,
                    "action": fields.STRING,
                    "subject": fields.STRING,
                    "detail": {"type": "object"},
                    "number": {**fields.maybe(fields.NUMBER), "description": "In the chain, from 1 on"},
                    "hash": {**fields.MAYBE_STRING, "description": "Of the chain up to this row"},
                }
            )
        ),
        _list,
        query={
            **fields.ONE_BY_ONE,
            "since": {**fields.MOMENT, "description": "From 7d or 12h ago, or from a time with offset on"},
            "until": {**fields.MOMENT, "description": "Before 7d or 12h ago, or a time with offset"},
            "order": fields.chosen("Which come first", "newest", "oldest"),
            "actor": fields.text("Exactly that one", least=1),
            "action": fields.text("Exactly that one, such as key.create", least=1),
            "subject": fields.text("In the subject, upper or lower case", least=1),
            "key": {**fields.PATH["key"], "description": "What was done with a key or to it: id or name"},
            "user": {**fields.USER_NAME, "description": "What a user did, or what was done to that user"},
            "connection": {
                **fields.PATH["connection"],
                "description": "What was done with SERVICE@NAME, or with all connections of SERVICE",
            },
        },
    ),
    Operation(
        "audit.verify",
        "GET",
        "/audit/chain",
        "Whether the audit is as it was written: every row's hash is checked",
        ("read",),
        fields.told(
            {
                "intact": fields.BOOLEAN,
                "head": {
                    "type": "string",
                    "description": "Number and hash of the last row; keep it elsewhere",
                },
                "since": {**fields.TIME, "description": "When the chain began"},
                "rows": fields.NUMBER,
                "dropped": {"type": "integer", "description": "Rows before them that retention dropped"},
                "late": {"type": "integer", "description": "Rows taken in after they were written"},
                "unchained": {"type": "integer", "description": "Rows not taken in yet"},
                "unchained_last": {**fields.MAYBE_TIME, "description": "The newest of those"},
                "faults": {
                    "type": "array",
                    "description": "The first 20",
                    "items": fields.told(
                        {"first": fields.NUMBER, "last": fields.NUMBER, "message": fields.STRING}
                    ),
                },
                "fault_count": fields.NUMBER,
            }
        ),
        _verify,
        query={
            "head": fields.text(
                "The head of an earlier answer, which has to be in the chain still",
                most=80,
                pattern=r"^[0-9]{1,15}:[0-9a-f]{64}$",
            ),
        },
    ),
)
