"""Pages as HTML: templates that escape everything, one style sheet, no script (R164)."""

import hashlib
from importlib.resources import files

from aiohttp import hdrs, web
from jinja2 import Environment, FunctionLoader, StrictUndefined

_CSP = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_FOLDER = files("proxy.control") / "pages"


class Pages:
    """All templates, compiled once: rendering touches no file."""

    def __init__(self) -> None:
        texts = {one.name: one.read_text(encoding="utf-8") for one in _FOLDER.iterdir() if one.is_file()}
        self._style = texts.pop("style.css").encode()
        self._style_path = f"/style.{hashlib.sha256(self._style).hexdigest()[:12]}.css"
        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            loader=FunctionLoader(texts.get),
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["style"] = self._style_path
        self._templates = {name: environment.get_template(name) for name in texts}

    def page(self, template: str, /, *, status: int = 200, **values: object) -> web.Response:
        """One page. Its headers let nothing be loaded from elsewhere, and forms go only here."""
        return web.Response(
            text=self._templates[f"{template}.html"].render(values),
            status=status,
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": _CSP},
        )

    def add(self, app: web.Application) -> None:
        """Serve the style sheet, whose name changes with its text, so browsers may keep it; and no icon."""

        async def style(_: web.Request) -> web.Response:
            return web.Response(
                body=self._style,
                headers={
                    hdrs.CONTENT_TYPE: "text/css; charset=utf-8",
                    hdrs.CACHE_CONTROL: "public, max-age=31536000, immutable",
                },
            )

        async def no_icon(_: web.Request) -> web.Response:
            return web.Response(status=204)

        app.router.add_get(self._style_path, style)
        app.router.add_get("/favicon.ico", no_icon)
