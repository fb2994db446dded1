"""The sandbox's listeners: TLS for calls and tokens, plain http on loopback for a person's browser."""

import html
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from proxy.sandbox.facts import ACCOUNTS, CALLS_A_MINUTE
from proxy.sandbox.provider import Asked, Provider, RefusedError

_CONSENT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sandbox: allow access?</title><link rel="icon" href="data:,"></head>
<body style="font:1rem/1.5 system-ui;max-width:32rem;margin:10vh auto;padding:0 1rem">
<h1>Allow access to the Sandbox?</h1>
<p>This provider exists only on this machine, while the demo runs. An app wants to use your account.</p>
<form method="post">
<fieldset><legend>Account</legend>ACCOUNTS</fieldset>
<fieldset><legend>It may</legend>SCOPES</fieldset>
<p><button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></p>
</form></body></html>
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived: ``fields`` in order."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]


class Sandbox:
    """The service: answers 200 to its ``token`` and those of its ``provider``, else 401; too many calls 429.

    ``on_request`` is told of each call. Use :meth:`start` and :meth:`stop` on one loop; ``port`` and
    ``browser_origin`` are known in between.
    """

    def __init__(
        self,
        certificate: Path,
        token: str,
        on_request: Callable[[Seen], None],
        *,
        app_secret: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.port = 0
        self.browser_origin = ""
        self.provider = Provider(app_secret, clock)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._token = token
        self._on_request = on_request
        self._clock = clock
        self._calls: dict[str, tuple[int, int]] = {}
        self._runner = web.ServerRunner(web.Server(self._answer))
        self._browsers = web.ServerRunner(web.Server(self._page))

    async def start(self) -> None:
        """Listen on free ports of 127.0.0.1."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context).start()
        self.port = self._runner.addresses[0][1]
        await self._browsers.setup()
        await web.TCPSite(self._browsers, "127.0.0.1", 0).start()
        self.browser_origin = f"http://127.0.0.1:{self._browsers.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening and end what is open."""
        await self._browsers.cleanup()
        await self._runner.cleanup()

    # --- calls and tokens -------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path in {"/oauth/token", "/oauth/revoke"} and request.method == "POST":
            return await self._token_request(request)
        self._on_request(Seen(request.method, request.raw_path, tuple(request.headers.items())))
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        account = ACCOUNTS[0] if given == self._token else self.provider.account(given)
        if account is None:
            return web.json_response({"error": "invalid token"}, status=401)
        headers = self._budget(account)
        if headers["X-RateLimit-Remaining"] == "0":
            return web.json_response({"error": "too many calls"}, status=429, headers=headers)
        answer = {"account": account, "you_called": f"{request.method} {request.raw_path}"}
        body = await request.text()
        return web.json_response(answer | {"you_sent": body} if body else answer, headers=headers)

    def _budget(self, account: str) -> dict[str, str]:
        """Count a call; what the account has left of this minute."""
        minute, past = divmod(int(self._clock()), 60)
        before, calls = self._calls.get(account, (minute, 0))
        self._calls[account] = (minute, calls + 1 if before == minute else 1)
        left = max(CALLS_A_MINUTE - self._calls[account][1], 0)
        told = {"X-RateLimit-Limit": str(CALLS_A_MINUTE), "X-RateLimit-Remaining": str(left)}
        return told if left else {**told, "Retry-After": str(60 - past)}

    async def _token_request(self, request: web.BaseRequest) -> web.StreamResponse:
        form = await _form(request)
        try:
            if request.path == "/oauth/revoke":
                self.provider.revoke(form)
                return web.json_response({})
            return web.json_response(self.provider.token(form), headers={"Cache-Control": "no-store"})
        except RefusedError as refused:
            status = 401 if refused.code == "invalid_client" else 400
            return web.json_response({"error": refused.code}, status=status)

    # --- a person's browser -----------------------------------------------------------------------------

    async def _page(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/authorize":
            return web.Response(status=404, text="There is only /authorize here.")
        try:
            asked = self.provider.asked(dict(request.query))
        except RefusedError as refused:
            return web.Response(status=400, text=f"The sandbox does not take this request: {refused.code}")
        if request.method != "POST":
            return web.Response(text=_consent(asked), content_type="text/html")
        form = await request.post()
        allowed = form.get("decision") == "allow"
        scopes = tuple(scope for scope in asked.scopes if scope in form.getall("scope", []))
        account = str(form.get("account", ACCOUNTS[0])) if allowed else None
        place = self.provider.decide(asked, self.browser_origin, account=account, scopes=scopes)
        return web.Response(status=302, headers={"Location": place})


def _consent(asked: Asked) -> str:
    accounts = "".join(
        f'<label><input type="radio" name="account" value="{name}"{chosen}> {name}</label><br>'
        for name, chosen in zip(ACCOUNTS, (" checked", ""), strict=True)
    )
    scopes = "".join(
        f'<label><input type="checkbox" name="scope" value="{html.escape(scope)}" checked> '
        f"{html.escape(scope)}</label><br>"
        for scope in asked.scopes
    )
    return _CONSENT.replace("ACCOUNTS", accounts).replace("SCOPES", scopes)


async def _form(request: web.BaseRequest) -> Mapping[str, str]:
    return {name: str(value) for name, value in (await request.post()).items()}
