"""What a browser keeps for us and sends back: cookies, and forms that only our own pages can have made.

Over https cookies carry the ``__Host-`` prefix, so no other host or path can set one; over http, which is
for loopback only, that prefix does not exist. A form holds a token made from its cookie; as pages say
no-referrer, browsers send ``Origin: null`` with it, which therefore says nothing and is not asked for.
"""

import hmac
from dataclasses import dataclass

from aiohttp import hdrs, web
from multidict import MultiMapping

from proxy.connectors.outcomes import FlowRefused
from proxy.connectors.vault_flows import digest
from proxy.secret import Secret

MAX_COOKIE = 256


@dataclass(frozen=True, slots=True)
class Cookies:
    """Cookies of one control plane. ``secure``: browsers reach it over https."""

    secure: bool

    def name(self, purpose: str) -> str:
        """Of the cookie for a purpose."""
        return f"__Host-{purpose}" if self.secure else f"connector-proxy-{purpose}"

    def read(self, request: web.Request, purpose: str, *, most: int = MAX_COOKIE) -> Secret | None:
        """What the browser keeps for a purpose; None too for what is over ``most`` characters."""
        found = request.cookies.get(self.name(purpose))
        return Secret(found) if found and len(found) <= most and found.isascii() else None

    def keep(self, response: web.Response, purpose: str, secret: Secret, *, seconds: float) -> None:
        """Let the browser keep a secret, out of reach of scripts; other sites bring it only by links."""
        response.set_cookie(
            self.name(purpose),
            secret.reveal(),
            max_age=int(seconds),
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="Lax",
        )

    def forget(self, response: web.Response, purpose: str) -> None:
        """Let the browser drop it."""
        response.del_cookie(self.name(purpose), path="/", secure=self.secure, httponly=True, samesite="Lax")


def form_token(secret: Secret) -> str:
    """What a form holds to prove that a page for this very browser made it."""
    return hmac.digest(digest(secret), b"connector-proxy form", "sha256").hex()


async def read_form(request: web.Request) -> MultiMapping[str]:
    """The texts of a posted form.

    Raises:
        FlowRefused: it comes from another site, or is no form that a page of ours sends.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise FlowRefused("other_browser", "The form was sent by another site.")
    # Other charsets than that of our pages can say what is no text, such as half a surrogate pair.
    is_ours = request.content_type == "application/x-www-form-urlencoded"
    if not is_ours or (request.charset or "utf-8").lower() != "utf-8":
        raise FlowRefused("other_browser", "That is no form of this page.")
    try:
        return await request.post()  # type: ignore[return-value]  # no file can be in this type of form
    except (ValueError, LookupError, web.HTTPRequestEntityTooLarge):  # not of its charset, or of none that is
        raise FlowRefused("other_browser", "That is no form of this page.") from None


def check_token(form: MultiMapping[str], secret: Secret | None) -> Secret:
    """The secret of the browser that this form was made for.

    Raises:
        FlowRefused: it was made for another one, or by another site (CSRF).
    """
    given = str(form.get("token", ""))
    right = b"" if secret is None else form_token(secret).encode()
    if secret is None or not hmac.compare_digest(given.encode("utf-8", "replace"), right):
        raise FlowRefused("other_browser", "The form does not belong to this browser's page: load it anew.")
    return secret


def is_prefetch(request: web.Request) -> bool:
    """True for a browser that looks ahead: nothing may be used up by it."""
    purpose = f"{request.headers.get('Sec-Purpose', '')} {request.headers.get('Purpose', '')}"
    return "prefetch" in purpose.lower() or request.method == hdrs.METH_HEAD
