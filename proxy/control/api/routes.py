"""The admin API's routes: one for each operation of the table, and the document that describes them."""

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import hdrs, web

from proxy.control.api.creation import REPLAYED, create, key_of
from proxy.control.api.document import openapi
from proxy.control.api.door import Asker, Door
from proxy.control.api.events import EventStream
from proxy.control.api.reading import read_request
from proxy.control.api.refusals import answer_to
from proxy.control.once import Once
from proxy.control.operating import Operating
from proxy.errors import ConnectorProxyError
from proxy.feed import Feed
from proxy.operations.events import EVENTS
from proxy.operations.operation import Asked, Document, Endpoint, Operation
from proxy.operations.table import OPERATIONS

ROOT = "/api/v1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class AdminApi:
    """Everything under ``ROOT``.

    Args:
        operating: runs operations.
        door: who may come in.
        feed: requests as they happen.
        clock: seconds since the epoch.
    """

    operating: Operating
    door: Door
    feed: Feed
    clock: Callable[[], float] = time.time

    def add(self, app: web.Application) -> None:
        """Serve it."""
        endpoints: list[Endpoint] = [*OPERATIONS.values(), EVENTS]
        document = json.dumps(openapi(endpoints, cookie=self.door.sign_in.session_cookie)).encode()

        async def described(request: web.Request) -> web.Response:
            await self.door.admit(request, None)
            return _json(200, document)

        app.router.add_get(f"{ROOT}/openapi.json", self._told(described))
        watched = self._told(EventStream(self.feed, self.door))
        app.router.add_get(ROOT + EVENTS.path, watched, allow_head=False)
        for one in OPERATIONS.values():
            handler = self._told(self._handler(one))
            if one.method == hdrs.METH_GET:
                app.router.add_get(ROOT + one.path, handler)
            else:
                app.router.add_route(one.method, ROOT + one.path, handler)

    def _told(self, handler: Handler) -> Handler:
        """Whatever is foreseen becomes a problem; the rest is the guard's."""

        async def told(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except ConnectorProxyError as error:
                return answer_to(error, secrets.token_hex(8))

        return told

    def _handler(self, operation: Operation) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            asker = await self.door.admit(request, operation)
            asked = await read_request(request, operation, asker)
            if operation.creates:
                return await self._create(request, operation, asker, asked)
            return _json(operation.status, _encoded(await self.operating.run(operation, asked)))

        return handle

    async def _create(
        self, request: web.Request, operation: Operation, asker: Asker, asked: Asked
    ) -> web.Response:
        key, ground = key_of(request), self.operating.ground()
        replayed = False
        if key is None:
            document = await self.operating.run(operation, asked)
        else:
            once = Once.of(key, asker.credential, operation, asked)
            document, replayed = await create(
                ground.vault, once, self.clock(), lambda: self.operating.run(operation, asked)
            )
        headers = {REPLAYED: "true"} if replayed else {}
        place = location_of(operation, document)
        if place is not None:
            headers[hdrs.LOCATION] = place
        return _json(operation.status, _encoded(document), headers)


def location_of(operation: Operation, document: Document) -> str | None:
    """The address of what was created, where it has one."""
    if operation.location is None or document.get("id") is None:
        return None
    return ROOT + operation.location.format_map(document)


def _encoded(document: Document) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def _json(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=body, headers={hdrs.CONTENT_TYPE: "application/json", **(headers or {})}
    )
