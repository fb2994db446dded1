"""The control plane's pages without login: ``/healthz``, ``/readyz``, ``/metrics`` (R154).

None of them touches the vault or the data plane.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from proxy.control.guarded import guarded_app
from proxy.forwarding.front import Front
from proxy.metrics import CONTENT_TYPE, Metrics


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be served; ``checks``: what was looked at -> ``ok`` or why not, no secrets."""

    ready: bool
    checks: Mapping[str, str] = field(default_factory=dict)


def make_control_app(
    *,
    ready: Callable[[], Readiness],
    metrics: Metrics,
    allowed_hosts: Iterable[str] = (),
    front: Front | None = None,
    more: Iterable[Callable[[web.Application], None]] = (),
) -> web.Application:
    """The control plane's application.

    Args:
        ready: asked for every ``/readyz``; must be quick.
        metrics: what ``/metrics`` shows.
        allowed_hosts: see ``guarded``.
        front: likewise.
        more: each adds pages of its own.
    """
    app = guarded_app(allowed_hosts, front)

    async def healthz(_: web.Request) -> web.Response:
        return _json(200, {"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        state = ready()
        status = "ready" if state.ready else "not_ready"
        return _json(200 if state.ready else 503, {"status": status, "checks": dict(state.checks)})

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    for add in more:
        add(app)
    return app


def _json(status: int, body: Mapping[str, object]) -> web.Response:
    return web.Response(
        status=status, body=json.dumps(body).encode(), headers={hdrs.CONTENT_TYPE: "application/json"}
    )
