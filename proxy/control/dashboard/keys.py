"""``/keys``: what programs call with; made from a form, shown once, revoked for good."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web
from multidict import MultiMapping

from proxy.catalog.recipes import Recipe
from proxy.connectors.audit import About, AuditEntry
from proxy.control.dashboard.frame import Frame, MissingPageError, number_of, sentences, text_of
from proxy.control.signin import Visitor
from proxy.errors import ConfigurationError, Fault
from proxy.forwarding.permits import parse_permit
from proxy.keys import KeyRecord
from proxy.operations.keys import key_state
from proxy.snippets import KEY_VARIABLE, Snippet, snippets_of

_BAD = 400
_DIGITS = 10
_HISTORY = 100
_METHODS = ("GET,HEAD", "GET", "POST", "GET,POST", "GET,POST,PATCH,PUT,DELETE")
_EXPIRY = (
    ("", "never"),
    ("1h", "in an hour"),
    ("24h", "in a day"),
    ("30d", "in 30 days"),
    ("365d", "in a year"),
)
_PARTS = ("service", "connection", "methods", "path")
Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Listed:
    """A key as it is shown. ``used``: when it last was (epoch seconds)."""

    record: KeyRecord
    state: str
    used: float | None


@dataclass(frozen=True, slots=True)
class KeyPages:
    """The list, the form, the page that shows a key once, and a page for each."""

    frame: Frame
    recipes: tuple[Recipe, ...]

    def add(self, app: web.Application) -> None:
        """Serve them, and what their forms do."""
        self.frame.shown(app, "/keys", self._list)
        self.frame.shown(app, "/keys/new", self._new)
        self.frame.done(app, "/keys/new", self._create, back="/keys/new")
        self.frame.done(app, "/keys/revoke-all", self._revoke_all, back="/keys")
        self.frame.shown(app, "/keys/{id}", self._show)
        self.frame.done(app, "/keys/{id}/revoke", self._revoke, back="/keys/{id}")

    async def _listed(self) -> list[Listed]:
        ground = self.frame.ground
        now, used = ground.clock(), await ground.vault.key_usage()
        known = (Listed(one, key_state(one, now), used.get(one.key_id)) for one in ground.keys().values())
        return sorted(
            known, key=lambda one: (not one.record.is_live(now), -one.record.created_at, one.record.name)
        )

    async def _list(self, _: web.Request, visitor: Visitor) -> web.Response:
        keys = await self._listed()
        live = sum(one.state == "active" for one in keys)
        return self.frame.page("keys", visitor, at="keys", keys=keys, live=live)

    async def _show(self, request: web.Request, visitor: Visitor) -> web.Response:
        wanted = request.match_info["id"]
        for one in await self._listed():
            if one.record.key_id == wanted:
                return self.frame.page(
                    "key",
                    visitor,
                    at="keys",
                    one=one,
                    history=await self._history(wanted),
                    observed=await self.frame.ground.vault.observed_of(wanted),
                )
        raise MissingPageError("There is no such key.")

    async def _history(self, key_id: str) -> list[AuditEntry]:
        return list(await self.frame.ground.vault.audit(about=About(key=key_id), limit=_HISTORY))

    # --- a new one --------------------------------------------------------------------------------------

    async def _new(self, request: web.Request, visitor: Visitor) -> web.Response:
        return self._form(visitor, [{"service": request.query.get("service", "")}], {})

    def _form(
        self,
        visitor: Visitor,
        rows: list[Row],
        given: Mapping[str, str],
        *,
        fault: str = "",
        status: int = 200,
    ) -> web.Response:
        ground = self.frame.ground
        services = sorted(ground.catalog().services.values(), key=lambda one: one.title.lower())
        connected = {one.service for one in ground.vault.connections()}
        return self.frame.page(
            "key_new",
            visitor,
            at="keys",
            status=status,
            rows=rows or [{}],
            given=given,
            fault=fault,
            connected=[one for one in services if one.type_id in connected],
            others=[one for one in services if one.type_id not in connected],
            names=sorted({one.name for one in ground.vault.connections()}),
            methods=_METHODS,
            readable=[one.title for one in services if one.read_only],
            expiry=_EXPIRY,
        )

    async def _create(self, _: web.Request, form: MultiMapping[str], visitor: Visitor) -> web.Response | str:
        ground = self.frame.ground
        rows = _rows(form)
        body = {
            "name": text_of(form, "name"),
            "allow": [text for row in rows if (text := _permit_text(row))],
            "kind": "service" if form.get("kind") == "service" else "proxy",
            "root": text_of(form, "root") or None,
            "networks": text_of(form, "networks").replace(",", " ").split(),
            "expires": text_of(form, "expires_at") or text_of(form, "expires") or None,
            "read_only": form.get("reading") == "yes",
            "observe": form.get("observe") == "yes",
            "rate": text_of(form, "rate") or None,
            "concurrency": _count(text_of(form, "concurrency")),
        }
        try:
            made = await ground.operating.by(visitor, "keys.create", form=number_of(form), body=body)
        except ConfigurationError as error:
            given = {
                name: str(value) for name, value in form.items() if name not in {*_PARTS, "token", "number"}
            }
            return self._form(visitor, rows, given, fault=sentences(error), status=_BAD)
        record = ground.vault.keys().get(made["id"])
        if record is None or not record.is_live(ground.clock()):  # sent again after the key's end
            raise ConfigurationError(Fault("", "the key that this form made is not in force any more"))
        return self.frame.page(
            "key_made",
            visitor,
            at="keys",
            record=record,
            key=made["key"],
            variable=KEY_VARIABLE,
            snippets=self._snippets(record),
        )

    def _snippets(self, record: KeyRecord) -> Mapping[str, tuple[Snippet, ...]]:
        """By title, for the services that the key may call; for one that may call all, those connected."""
        ground = self.frame.ground
        wanted: dict[str, str | None] = {}
        for permit in map(parse_permit, record.permits):
            if permit.service == "*":
                wanted |= {one.service: None for one in ground.vault.connections()}
            else:
                wanted.setdefault(permit.service, permit.connection)
        catalog, places = ground.catalog(), ground.places()
        return {
            catalog.services[name].title: snippets_of(
                catalog.services[name], self.recipes, places, connection=connection
            )
            for name, connection in wanted.items()
            if name in catalog.services
        }

    # --- the end of keys --------------------------------------------------------------------------------

    async def _revoke(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> str:
        path = {"key": request.match_info["id"]}
        done = await self.frame.ground.operating.by(visitor, "keys.revoke", path=path)
        self.frame.notices.add(visitor, "good", f"{done['name']} is revoked: calls with it are refused now.")
        return f"/keys/{done['id']}"

    async def _revoke_all(self, _: web.Request, __: MultiMapping[str], visitor: Visitor) -> str:
        done = await self.frame.ground.operating.by(visitor, "keys.revoke_all")
        count = done["revoked"]
        keys = "1 key is" if count == 1 else f"{count} keys are"
        self.frame.notices.add(visitor, "good", f"{keys} revoked. Keys declared in the settings stay.")
        return "/keys"


def _count(text: str) -> int | None:
    """A number of requests; what is none becomes one that is refused by name."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else 0


def _rows(form: MultiMapping[str]) -> list[Row]:
    """The permits of a form, each of which has all parts, as fields of the same names in order."""
    columns = [[str(value).strip() for value in _all(form, part)] for part in _PARTS]
    return [dict(zip(_PARTS, row, strict=True)) for row in zip(*columns, strict=False)]


def _all(form: MultiMapping[str], name: str) -> Iterable[str]:
    return form.getall(name, [])


def _permit_text(row: Row) -> str:
    """``SERVICE[@CONN][:METHODS[:PATH]]``; empty for a row that names no service."""
    if not row["service"]:
        return ""
    text = row["service"] + (f"@{row['connection']}" if row["connection"] else "")
    methods = ",".join(part.strip().upper() for part in row["methods"].split(",") if part.strip())
    if methods or row["path"]:
        text += f":{methods or '*'}"
    return f"{text}:{row['path']}" if row["path"] else text
