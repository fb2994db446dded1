"""Pages as HTML: templates that escape everything, style sheets, one script of our own (R164).

Nothing is written into a page that would run there: scripts and styles are files of this host, and the
policy that goes with each page lets in no others. Only the dashboard has a script.
"""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

from aiohttp import hdrs, web
from jinja2 import Environment, FunctionLoader, StrictUndefined

_CSP = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_SCRIPTED_CSP = f"{_CSP}; script-src 'self'; connect-src 'self'"
_SCRIPTED = "dashboard/"
_FOLDER = files("proxy.control") / "pages"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


class Pages:
    """All templates, compiled once: rendering touches no file.

    Args:
        values: what templates may use besides the values of a page.
    """

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        texts = _texts(_FOLDER)
        assets = {name: text for name, text in texts.items() if _ending(name) in _TYPES}
        self._bodies = {name: text.encode() for name, text in assets.items()}
        self._paths = {name: _path(name, body) for name, body in self._bodies.items()}
        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            loader=FunctionLoader(texts.get),
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(values or {})
        environment.globals["asset"] = self._paths.__getitem__
        self._templates = {name: environment.get_template(name) for name in texts.keys() - assets.keys()}

    def page(self, template: str, /, *, status: int = 200, **values: object) -> web.Response:
        """One page. Its headers let nothing be loaded from elsewhere, and forms go only here."""
        policy = _SCRIPTED_CSP if template.startswith(_SCRIPTED) else _CSP
        return web.Response(
            text=self._templates[f"{template}.html"].render(values),
            status=status,
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": policy},
        )

    def add(self, app: web.Application) -> None:
        """Serve style sheets and script, whose names change with their text, so browsers may keep them."""

        def serve(name: str) -> None:
            body, kind = self._bodies[name], _TYPES[_ending(name)]

            async def asset(_: web.Request) -> web.Response:
                return web.Response(
                    body=body,
                    headers={
                        hdrs.CONTENT_TYPE: kind,
                        hdrs.CACHE_CONTROL: "public, max-age=31536000, immutable",
                    },
                )

            app.router.add_get(self._paths[name], asset)

        for name in self._bodies:
            serve(name)

        async def no_icon(_: web.Request) -> web.Response:
            return web.Response(status=204)

        app.router.add_get("/favicon.ico", no_icon)


def _texts(folder: Traversable, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for one in folder.iterdir():
        if one.is_dir():
            found |= _texts(one, f"{prefix}{one.name}/")
        else:
            found[prefix + one.name] = one.read_text(encoding="utf-8")
    return found


def _ending(name: str) -> str:
    return name[name.rfind(".") :]


def _path(name: str, body: bytes) -> str:
    stem, _, ending = name.rpartition("/")[2].rpartition(".")
    return f"/{stem}.{hashlib.sha256(body).hexdigest()[:12]}.{ending}"
