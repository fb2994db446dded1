"""The dashboard: server-rendered pages for whoever operates the proxy, one module a page.

``add_dashboard`` serves them. Whatever a page changes goes through ``proxy.operations`` or the vault, as the
command line does; its forms are POSTs with the token of ``control.browsers``.
"""

from collections.abc import Mapping

from aiohttp import web

from proxy.catalog.recipes import load_recipes
from proxy.control.dashboard import icons, words
from proxy.control.dashboard.audit import AuditPage
from proxy.control.dashboard.connections import ConnectionPages
from proxy.control.dashboard.frame import Frame
from proxy.control.dashboard.ground import Ground
from proxy.control.dashboard.keys import KeyPages
from proxy.control.dashboard.live import LivePage
from proxy.control.dashboard.overview import OverviewPage
from proxy.control.dashboard.password import PasswordPage
from proxy.control.dashboard.service import ServicePage
from proxy.control.dashboard.services import ServicesPage
from proxy.control.dashboard.users import UserPages

TEMPLATE_VALUES: Mapping[str, object] = {
    "icon": icons.icon,
    "state": words.state,
    "pill": words.pill,
    "status": words.status,
    "when": words.when,
    "number": words.number,
    "duration": words.duration,
}
"""What the templates use; for ``Pages``."""


def add_dashboard(app: web.Application, ground: Ground) -> None:
    """Serve all pages."""
    frame, recipes = Frame(ground), load_recipes()
    for page in (
        OverviewPage(frame),
        ServicesPage(frame),
        ServicePage(frame, recipes),
        ConnectionPages(frame),
        KeyPages(frame, recipes),
        LivePage(frame),
        AuditPage(frame),
        PasswordPage(frame),
        UserPages(frame),
    ):
        page.add(app)


__all__ = ["TEMPLATE_VALUES", "Ground", "add_dashboard"]
