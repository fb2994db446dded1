"""What tests do with a real OAuth server in a process of its own, whichever of the two it is.

Both rotate refresh tokens and end the whole grant when a spent one comes back; lifetimes and delays are set while
they run. Calls of these methods block for some milliseconds: the server is another process.
"""

import base64
import hashlib
import http.client
import json
import secrets
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from support.providers.entry import Value, catalog_entry
from support.proxy import Process

CLIENT_ID, CLIENT_SECRET = "real-client", "real-client-secret"
REDIRECT_URI = "http://localhost:8081/callback/real"
USER, PASSWORD = "alice", "wonderland"
_LIMIT_S = 60.0


class Provider(Process):
    """A server on a free port of 127.0.0.1; start it with ``with``.

    Args:
        folder: for its files and output.
    """

    name = "provider"
    authorize_path = token_path = revoke_path = ""
    issuer_announced = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.client_id, self.client_secret = CLIENT_ID, CLIENT_SECRET

    def command(self, ready: Path) -> list[str]:
        """What starts it; it writes ``{pid, port}`` to ``ready``."""
        raise NotImplementedError

    def start(self) -> Self:
        """Starts it and waits until it listens."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        told = self._start(self.command(ready), self.environment(), ready)
        self.address = ("127.0.0.1", told["port"])
        return self

    def environment(self) -> dict[str, str]:
        return {}

    def stop(self) -> int:
        """Kills it: it holds nothing worth saving."""
        self.kill()
        return 0

    def __enter__(self) -> Self:
        return self.start()

    # --- how the proxy learns of it ---------------------------------------------------------------------

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.address[1]}"

    def service_file(self, *, endpoint: str | None = None, more: str = "", **oauth: Value) -> str:
        """Its catalog file; ``endpoint`` replaces the origin of the token endpoint (a relay before it)."""
        return catalog_entry(
            self.origin,
            {
                "family": "real",
                "authorization_url": self.origin + self.authorize_path,
                "token_url": (endpoint or self.origin) + self.token_path,
                "revoke_url": self.origin + self.revoke_path,
                "client_auth": "basic",
                "pkce": "required",
                "iss": self.issuer_announced,
                "scopes": ["read", "write"],
                "refresh": "rotating_strict",
                **oauth,
            },
            title=self.name,
            more=more,
        )

    # --- a person with a browser ------------------------------------------------------------------------

    def allow_redirect(self, uri: str) -> None:
        """Registers one more redirect URI, exactly compared."""
        self.control("redirects", {"uri": uri})

    def approve(self, address: str, *, user: str = USER) -> str:
        """What a browser is sent back to when ``user`` signs in and agrees at this authorization address."""
        return self._decide(address, user, allow=True)

    def deny(self, address: str, *, user: str = USER) -> str:
        """The same, when the person declines."""
        return self._decide(address, user, allow=False)

    def _decide(self, address: str, user: str, *, allow: bool) -> str:
        raise NotImplementedError

    # --- an app -----------------------------------------------------------------------------------------

    def issue_grant(self, *, user: str = USER, scopes: str = "read write") -> dict[str, Any]:
        """The token answer of a whole code flow, without the proxy and without a browser."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": scopes,
            "state": secrets.token_urlsafe(16),
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        came = self.approve(f"{self.origin}{self.authorize_path}?{urllib.parse.urlencode(asked)}", user=user)
        answered = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(came).query))
        assert answered["state"] == asked["state"], came
        status, told = self.token(
            grant_type="authorization_code",
            code=answered["code"],
            redirect_uri=REDIRECT_URI,
            code_verifier=verifier,
        )
        assert status == 200, told
        return told

    def token(self, **form: str) -> tuple[int, dict[str, Any]]:
        """One request to the token endpoint with the client's credentials."""
        status, _, body = self.call("POST", self.token_path, form=form, basic=True)
        return status, json.loads(body)

    def refresh(self, refresh_token: str) -> tuple[int, dict[str, Any]]:
        """Spend a refresh token."""
        return self.token(grant_type="refresh_token", refresh_token=refresh_token)

    def revoke(self, token: str) -> int:
        """RFC 7009; its status."""
        return self.call("POST", self.revoke_path, form={"token": token}, basic=True)[0]

    def accepts(self, access_token: str) -> bool:
        """Whether the service behind it takes this access token now."""
        headers = {"Authorization": f"Bearer {access_token}"}
        return self.call("GET", "/api/me", headers=headers)[0] == 200

    # --- what tests ask and set -------------------------------------------------------------------------

    def adjust(self, **settings: float) -> None:
        """Set at run time: ``access_lifetime_s``, ``grace_s``, ``before_s``, ``after_s``.

        The last two: how long the token endpoint waits before and after it has carried a request out.
        """
        self.control("settings", settings)

    def token_requests(self, grant: str = "refresh_token") -> int:
        """How many requests of this grant type have reached the token endpoint."""
        return sum(self.counts().get(grant, {}).values())

    def counts(self) -> dict[str, dict[str, int]]:
        """Grant type -> status (or ``waiting``) -> number of token requests."""
        counted: dict[str, dict[str, int]] = self.control("counts", {})
        return counted

    def secrets(self) -> list[tuple[str, str]]:
        """Names and values of all that must stay secret and went over the token endpoint, in order."""
        return [(name, value) for name, value in self.control("secrets", {})["secrets"]]

    def is_alive(self, refresh_token: str) -> bool:
        """Whether the grant that this refresh token, spent or not, belongs to can still be refreshed."""
        return bool(self.control("alive", {"refresh_token": refresh_token})["alive"])

    def control(self, what: str, document: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        status, _, body = self.call(
            "POST", f"/_control/{what}", raw=json.dumps(document).encode(), headers=headers
        )
        if status != 200:
            raise RuntimeError(f"{self.name}: {what} -> {status} {body[:300]!r}\n{self.log[-2000:]}")
        return json.loads(body)

    def call(
        self,
        method: str,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        raw: bytes = b"",
        headers: Mapping[str, str] | None = None,
        basic: bool = False,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request on a connection of its own: status, headers, body. Redirects are not followed."""
        sent = dict(headers or {})
        if form is not None:
            raw = urllib.parse.urlencode(form).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        if basic:
            pair = f"{urllib.parse.quote(self.client_id)}:{urllib.parse.quote(self.client_secret)}"
            sent["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        connection = http.client.HTTPConnection(*self.address, timeout=_LIMIT_S)
        try:
            connection.request(method, path, body=raw or None, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()
