"""``/``: what needs a person, what to do first, and how the last hour went."""

from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from proxy.connectors.audit import AuditEntry
from proxy.connectors.users import is_by_user
from proxy.control.dashboard.connections import standings
from proxy.control.dashboard.figures import Hour, budgets_of, hour_of
from proxy.control.dashboard.frame import Frame
from proxy.control.signin import Visitor

_LOOKED_THROUGH = 1000
_PASSWORD = "admin.password"  # noqa: S105  # the name of what happened


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do at the beginning."""

    done: bool
    word: str
    about: str
    place: str


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """The first page after signing in."""

    frame: Frame

    def add(self, app: web.Application) -> None:
        """Serve it."""
        self.frame.shown(app, "/", self._show)

    async def _show(self, _: web.Request, visitor: Visitor) -> web.Response:
        ground = self.frame.ground
        held = await standings(self.frame)
        steps = await self._steps()
        titles = {one.type_id: one.title for one in ground.catalog().services.values()}
        return self.frame.page(
            "overview",
            visitor,
            at="overview",
            troubled=[one for one in held if one.trouble],
            count=len(held),
            hour=self._hour(),
            budgets=budgets_of(ground.budgets().hour(), titles),
            titles=titles,
            steps=[] if all(one.done for one in steps) else steps,
            copy=ground.vault.is_copy,
        )

    def _hour(self) -> Hour:
        history = self.frame.ground.history
        history.look()
        return hour_of(history.minutes())

    async def _steps(self) -> list[Step]:
        """What a new vault needs, in order."""
        ground = self.frame.ground
        now = ground.clock()
        uses = await ground.vault.key_usage()
        entries = await ground.vault.audit(limit=_LOOKED_THROUGH)
        own_key = any(one.action == "key.create" and is_by_user(one.actor) for one in entries)
        live = [one for one in ground.keys().values() if one.is_live(now)]
        password = Step(
            _is_own(entries), "Change the password", "The printed one was seen on a screen.", "/password"
        )
        return [
            *([password] if ground.sign_in.ways.passwords else []),
            Step(
                bool(ground.vault.connections()),
                "Connect an account",
                "Choose a service, sign in there once.",
                "/services",
            ),
            Step(
                bool(live) and (own_key or bool(uses)),
                "Create a key",
                "For a program, with no more permits than it needs.",
                "/keys",
            ),
            Step(
                bool(uses), "Call a service with it", "Ready lines are on each service's page.", "/services"
            ),
        ]


def _is_own(entries: Iterable[AuditEntry]) -> bool:
    """True unless the password in force is one that a program printed."""
    last = next((one for one in entries if one.action == _PASSWORD), None)
    return last is None or is_by_user(last.actor)
