"""``/services``: everything that can be connected, and what of it is."""

from dataclasses import dataclass

from aiohttp import web

from proxy.catalog.model import Service
from proxy.connectors.model import Connection
from proxy.control.dashboard.frame import Frame
from proxy.control.dashboard.words import Tone
from proxy.control.signin import Visitor

_SHOWN = (("", "All"), ("connected", "Connected"), ("open", "Not connected"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A service and its connections; ``word`` says how it stands, ``tone`` in what colour."""

    service: Service
    connections: tuple[Connection, ...]
    word: str
    tone: Tone

    @property
    def text(self) -> str:
        """What a search looks at."""
        accounts = " ".join(f"{one.name} {one.account or ''}" for one in self.connections)
        return f"{self.service.title} {self.service.type_id} {accounts}".lower()


@dataclass(frozen=True, slots=True)
class ServicesPage:
    """The list of all services."""

    frame: Frame

    def add(self, app: web.Application) -> None:
        """Serve it."""
        self.frame.shown(app, "/services", self._list)

    async def _list(self, request: web.Request, visitor: Visitor) -> web.Response:
        wanted = request.query.get("q", "").strip().lower()
        show = request.query.get("show", "")
        entries = [
            one
            for one in self._entries()
            if wanted in one.text and (not show or (show == "connected") == (one.word != "Not connected"))
        ]
        return self.frame.page(
            "services", visitor, at="services", entries=entries, q=wanted, show=show, choices=_SHOWN
        )

    def _entries(self) -> list[Entry]:
        ground = self.frame.ground
        held: dict[str, list[Connection]] = {}
        for one in ground.vault.connections():
            held.setdefault(one.service, []).append(one)
        sources = ground.settings().sources
        services = sorted(ground.catalog().services.values(), key=lambda one: one.title.lower())
        return [
            _entry(
                one,
                tuple(held.get(one.type_id, ())),
                sources[one.type_id].kind if one.type_id in sources else "vault",
            )
            for one in services
        ]


def _entry(service: Service, connections: tuple[Connection, ...], source: str) -> Entry:
    if source != "vault":
        return Entry(service, connections, f"From {source}", "good")
    ill = [one for one in connections if one.state == "reauthorization_required"]
    if ill:
        return Entry(service, connections, "Needs a person", "bad")
    if connections:
        return Entry(service, connections, "Connected", "good")
    return Entry(service, connections, "Not connected", "quiet")
