"""The side of a server that runs once, however many processes forward: control plane and scheduled work."""

from collections.abc import Callable, Iterable
from socket import socket

from aiohttp import web
from yarl import URL

from proxy.control.health import Readiness, make_control_app
from proxy.control.listener import ControlRunner
from proxy.core import Core
from proxy.settings import Settings


class ControlSide:
    """The control plane on sockets that others bound, and what has to be done from time to time.

    Args:
        core: see Core.
        sockets: of the control plane.
        ready: whether requests can be answered; asked for every ``/readyz``.
    """

    def __init__(self, core: Core, sockets: Iterable[socket], ready: Callable[[], Readiness]) -> None:
        self._core = core
        self._sockets = tuple(sockets)
        self._runner = ControlRunner(
            make_control_app(ready=ready, metrics=core.metrics, allowed_hosts=_hosts(core.settings)),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
        )

    async def start(self) -> None:
        """Answer on the control plane from now on, and begin the scheduled work."""
        await self._runner.setup()
        for one in self._sockets:
            await web.SockSite(self._runner, one).start()
        follower = self._core.follower
        if follower is not None:
            self._core.go(follower.note_uses(), "key uses")
            self._core.go(follower.prune(), "audit")

    async def close(self) -> None:
        """End the control plane. Uses of keys that were not written yet are written."""
        await self._runner.cleanup()
        if self._core.follower is not None:
            await self._core.follower.write_uses()


def _hosts(settings: Settings) -> tuple[str, ...]:
    public = URL(settings.control.origin()).raw_host
    return (*settings.control.allowed_hosts, *((public,) if public else ()))
