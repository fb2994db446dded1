"""The audit: who changed or revealed what, and when."""

from collections.abc import Mapping

from proxy.connectors.audit import AuditEntry
from proxy.operations.moments import rfc3339


def audit_document(one: AuditEntry) -> Mapping[str, object]:
    """A row as it is listed."""
    return {
        "at": rfc3339(one.at),
        "actor": one.actor,
        "action": one.action,
        "subject": one.subject,
        "detail": dict(one.detail),
    }
