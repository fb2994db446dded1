"""The operation that tells how a server is."""

from proxy import __version__
from proxy.operations import fields
from proxy.operations.moments import rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation


async def _show(ground: Ground, asked: Asked) -> Document:  # noqa: ARG001  # nothing is to be said
    checks = dict(ground.checks or {})
    return {
        "status": "ready" if all(value == "ok" for value in checks.values()) else "not_ready",
        "version": __version__,
        "at": rfc3339(ground.now),
        "checks": checks,
        "public_url": ground.parts.connecting.flows.public_url,
        "vault_is_copy": ground.vault.is_copy,
    }


OPERATIONS = (
    Operation(
        "health.show",
        "GET",
        "/health",
        "Whether requests can be served, and what was looked at",
        ("read",),
        fields.told(
            {
                "status": fields.chosen("As /readyz tells it", "ready", "not_ready"),
                "version": fields.STRING,
                "at": fields.TIME,
                "checks": fields.TEXTS,
                "public_url": fields.STRING,
                "vault_is_copy": fields.BOOLEAN,
            }
        ),
        _show,
    ),
)
