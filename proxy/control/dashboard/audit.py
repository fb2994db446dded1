"""``/audit``: who changed or revealed what, and when."""

from dataclasses import dataclass

from aiohttp import web

from proxy.connectors.audit import About
from proxy.control.dashboard.frame import Frame
from proxy.control.signin import Visitor
from proxy.errors import ConfigurationError
from proxy.operations.moments import parse_since

_READ = 5000
_SHOWN = 200
_SINCE = (
    ("1h", "Last hour"),
    ("24h", "Last day"),
    ("7d", "Last 7 days"),
    ("90d", "Last 90 days"),
    ("365d", "Last year"),
)
_DEFAULT = "7d"


@dataclass(frozen=True, slots=True)
class AuditPage:
    """The newest rows, filtered by who, what and about whom."""

    frame: Frame

    def add(self, app: web.Application) -> None:
        """Serve it."""
        self.frame.shown(app, "/audit", self._list)

    async def _list(self, request: web.Request, visitor: Visitor) -> web.Response:
        ground = self.frame.ground
        given = {
            name: request.query.get(name, "").strip() for name in ("since", "actor", "action", "subject")
        }
        try:
            since = parse_since(given["since"] or _DEFAULT, now=ground.clock())
        except ConfigurationError:
            given["since"], since = _DEFAULT, parse_since(_DEFAULT, now=ground.clock())
        rows = await ground.vault.audit(since=since, limit=_READ)
        about = About(**{name: given[name] for name in ("actor", "action", "subject") if given[name]})
        found = await ground.vault.audit(since=since, about=about, limit=_READ)
        return self.frame.page(
            "audit",
            visitor,
            at="audit",
            entries=found[:_SHOWN],
            count=len(found),
            given=given,
            keep_days=ground.settings().audit.keep_days,
            since=given["since"] or _DEFAULT,
            choices=_SINCE,
            actors=sorted({one.actor for one in rows}),
            actions=sorted({one.action for one in rows}),
        )
