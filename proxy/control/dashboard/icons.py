"""A service's mark: the path of its icon (``icons.json``), or its first letter where there is none."""

import json
from importlib.resources import files

from markupsafe import Markup

_PATHS: dict[str, str] = json.loads(
    (files("proxy.control.dashboard") / "icons.json").read_text(encoding="utf-8")
)["paths"]


def icon(type_id: str, title: str) -> Markup:
    """Decoration only: the service's name always stands beside it."""
    path = _PATHS.get(type_id)
    if path is None:
        return Markup('<span class="mark letter" aria-hidden="true">{}</span>').format(title[:1].upper())
    return Markup(
        '<span class="mark" aria-hidden="true"><svg viewBox="0 0 24 24" focusable="false">'
        '<path d="{}"/></svg></span>'
    ).format(path)
