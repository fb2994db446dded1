"""``/connections``: the accounts whose tokens are kept, how each of them stands, and what mends it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from proxy.connecting import missing_scopes
from proxy.connectors import causes, expiring
from proxy.connectors.audit import About, AuditEntry
from proxy.connectors.model import Connection
from proxy.connectors.refresh import states
from proxy.connectors.vault import Vault
from proxy.control.dashboard.frame import Frame, MissingPageError
from proxy.control.dashboard.service import reconnect_place
from proxy.control.signin import Visitor

_HISTORY = 30
_ADVICE: Mapping[str, str] = {
    causes.OPERATOR: "Put it in use again when whatever it was frozen for is over.",
    causes.COPY: "Once the original is out of use: connector-proxy vault adopt.",
}
_CONNECT_AGAIN = "Connect the account again; everything that uses it goes on by itself then."


@dataclass(frozen=True, slots=True)
class Standing:
    """A connection with what a person has to know of it.

    ``trouble`` and ``advice`` are empty where there is none; ``next_refresh``, ``last_use``: epoch
    seconds, the latter since the server's start.
    """

    connection: Connection
    title: str
    next_refresh: float | None
    last_use: float | None
    trouble: str = ""
    advice: str = ""

    @property
    def place(self) -> str:
        """Its page."""
        return f"/connections/{self.connection.service}/{self.connection.name}"

    @property
    def again(self) -> str:
        """Where it is connected again; empty where that would not help."""
        if self.connection.cause in _ADVICE:
            return ""
        return reconnect_place(self.connection.service, self.connection.name)


async def standings(frame: Frame) -> list[Standing]:
    """All connections, those that need a person first."""
    ground = frame.ground
    catalog, now, uses = ground.catalog(), ground.clock(), ground.account_uses()
    found = []
    for one in await states.shown(ground.vault):
        service = catalog.get(one.service)
        found.append(
            Standing(
                one,
                one.service if service is None else service.title,
                _next_refresh(ground.vault, one),
                uses.get(one.connection_id),
                *_trouble(one, now),
            )
        )
    return sorted(found, key=lambda one: (not one.trouble, one.title.lower(), one.connection.name))


def _next_refresh(vault: Vault, one: Connection) -> float | None:
    held = vault.snapshot.held.get(one.connection_id)
    return None if held is None or held.credential is None else held.credential.refresh_at


def _trouble(one: Connection, now: float) -> tuple[str, str]:
    if one.cause is not None or one.state in {"reauthorization_required", "frozen"}:
        return f"It {causes.cause_of(one.cause).sentence}.", _ADVICE.get(one.cause or "", _CONNECT_AGAIN)
    left = expiring.days_left(one.refresh_expires_at, now)
    if left is not None:
        return f"Its refresh token ends in {left} days.", _CONNECT_AGAIN
    return "", ""


@dataclass(frozen=True, slots=True)
class ConnectionPages:
    """The list, and a page for each connection."""

    frame: Frame

    def add(self, app: web.Application) -> None:
        """Serve them, and what their forms do."""
        here = "/connections/{service}/{name}"
        self.frame.shown(app, "/connections", self._list)
        self.frame.shown(app, here, self._show)
        self.frame.done(app, "/connections/freeze-all", self._freeze_all, back="/connections")
        self.frame.done(app, "/connections/thaw-all", self._thaw_all, back="/connections")
        for action, handler in {
            "verify": self._verify,
            "default": self._default,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "disconnect": self._disconnect,
        }.items():
            self.frame.done(app, f"{here}/{action}", handler, back=here)

    async def _list(self, _: web.Request, visitor: Visitor) -> web.Response:
        return self.frame.page(
            "connections", visitor, at="connections", standings=await standings(self.frame)
        )

    async def _standing(self, request: web.Request) -> Standing:
        service, name = request.match_info["service"], request.match_info["name"]
        for one in await standings(self.frame):
            if (one.connection.service, one.connection.name) == (service, name):
                return one
        raise MissingPageError("There is no such connection: it may have been removed.")

    async def _show(self, request: web.Request, visitor: Visitor) -> web.Response:
        vault, standing = self.frame.ground.vault, await self._standing(request)
        one = standing.connection
        service = self.frame.ground.catalog().get(one.service)
        missing = set(missing_scopes(one.asked_scopes, one.scopes))
        return self.frame.page(
            "connection",
            visitor,
            at="connections",
            standing=standing,
            one=one,
            service=service,
            refreshes=await states.attempts(vault, one.connection_id),
            asked=[(scope, scope not in missing) for scope in one.asked_scopes],
            history=await _history(vault, f"{one.service}@{one.name}"),
        )

    # --- what its forms do ------------------------------------------------------------------------------

    async def _do(
        self, action: str, request: web.Request, visitor: Visitor, query: Mapping[str, bool] | None = None
    ) -> Mapping[str, Any]:
        named = f"{request.match_info['service']}@{request.match_info['name']}"
        return await self.frame.ground.operating.by(
            visitor, f"connections.{action}", path={"connection": named}, query=query or {}
        )

    async def _verify(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> str:
        standing = await self._standing(request)
        verdict = await self._do("verify", request, visitor)
        if verdict["ok"]:
            who = f", for {verdict['account']}" if verdict["account"] else ""
            self.frame.notices.add(visitor, "good", f"{standing.title} takes the token{who}.")
        else:
            self.frame.notices.add(visitor, "bad", f"It did not go well: {verdict['reason']}.")
        return standing.place

    async def _default(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> str:
        standing = await self._standing(request)
        await self._do("default", request, visitor)
        text = f"Calls to /{standing.connection.service}/ without @name use this account from now on."
        self.frame.notices.add(visitor, "good", text)
        return standing.place

    async def _freeze(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> str:
        standing = await self._standing(request)
        await self._do("freeze", request, visitor)
        self.frame.notices.add(visitor, "good", "It is frozen: its token is not handed out.")
        return standing.place

    async def _thaw(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> str:
        standing = await self._standing(request)
        await self._do("thaw", request, visitor)
        self.frame.notices.add(visitor, "good", "It is in use again.")
        return standing.place

    async def _freeze_all(self, _: web.Request, __: MultiMapping[str], visitor: Visitor) -> str:
        done = await self.frame.ground.operating.by(visitor, "connections.freeze_all")
        accounts = "1 account is" if done["count"] == 1 else f"{done['count']} accounts are"
        self.frame.notices.add(visitor, "good", f"{accounts} frozen: no token is handed out.")
        return "/connections"

    async def _thaw_all(self, _: web.Request, __: MultiMapping[str], visitor: Visitor) -> str:
        done = await self.frame.ground.operating.by(visitor, "connections.thaw_all")
        accounts = "1 account is" if done["count"] == 1 else f"{done['count']} accounts are"
        self.frame.notices.add(visitor, "good", f"{accounts} in use again.")
        return "/connections"

    async def _disconnect(self, request: web.Request, form: MultiMapping[str], visitor: Visitor) -> str:
        one = (await self._standing(request)).connection
        wanted = {"always": True, "never": False}.get(str(form.get("revoke", "")))
        query = {} if wanted is None else {"revoke": wanted}
        done = await self._do("remove", request, visitor, query)
        self.frame.notices.add(
            visitor,
            "good",
            f"{one.service}@{one.name} is removed, and its tokens are erased here. "
            f"Its grant {done['about']}.",
        )
        return "/connections"


async def _history(vault: Vault, subject: str) -> list[AuditEntry]:
    """What happened to a connection, newest first."""
    return list(await vault.audit(about=About(connection=subject), limit=_HISTORY))
