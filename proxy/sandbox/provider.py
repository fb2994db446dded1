"""The sandbox's OAuth provider: codes with PKCE, tokens that are short-lived, refresh tokens good once.

It is as strict as good providers are: a code or refresh token that comes a second time ends the whole grant
(RFC 9700 §4.14.2). Everything is in memory.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from yarl import URL

from proxy.sandbox.facts import ACCESS_LIFE_S, CLIENT_ID, SCOPES, SERVICE

_CODE_LIFE_S = 60.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class RefusedError(Exception):
    """A request that is not granted; ``code`` of RFC 6749 §5.2."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Asked:
    """A good authorization request."""

    redirect_uri: str
    state: str
    challenge: str
    scopes: tuple[str, ...]


@dataclass(slots=True)
class _Grant:
    """What a person allowed; it lives until it is revoked or one of its tokens is used twice."""

    account: str
    scopes: tuple[str, ...]
    asked: Asked
    made_at: float
    live: bool = True
    code_spent: bool = False
    access: dict[str, float] = field(default_factory=dict)


class Provider:
    """Grants and tokens. ``secret``: of the one app that is registered; ``clock``: seconds."""

    def __init__(self, secret: str, clock: Callable[[], float]) -> None:
        self._secret = secret
        self._clock = clock
        self._codes: dict[str, _Grant] = {}
        self._refresh: dict[str, _Grant] = {}
        self._spent: dict[str, _Grant] = {}
        self._access: dict[str, _Grant] = {}

    def asked(self, query: Mapping[str, str]) -> Asked:
        """An authorization request, checked (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8252 §7.3).

        Raises:
            RefusedError: it is not one that a person should be asked about.
        """
        url = URL(query.get("redirect_uri", ""))
        is_ours = url.scheme == "http" and url.host in _LOOPBACK and url.path == f"/callback/{SERVICE}"
        if query.get("client_id") != CLIENT_ID or not is_ours:
            raise RefusedError("unauthorized_client")
        challenge = query.get("code_challenge", "")
        scopes = tuple(query.get("scope", "").split())
        if (
            query.get("response_type") != "code"
            or query.get("code_challenge_method") != "S256"
            or not challenge
        ):
            raise RefusedError("invalid_request")
        if not set(scopes) <= set(SCOPES):
            raise RefusedError("invalid_scope")
        return Asked(str(url), query.get("state", ""), challenge, scopes)

    def decide(self, asked: Asked, issuer: str, *, account: str | None, scopes: tuple[str, ...]) -> str:
        """Where the browser goes: with a code, or (``account`` None) with the refusal."""
        answer = {"state": asked.state, "iss": issuer}
        if account is None:
            answer["error"] = "access_denied"
        else:
            answer["code"] = code = secrets.token_urlsafe(32)
            self._codes[code] = _Grant(account, scopes, asked, self._clock())
        return f"{asked.redirect_uri}?{urlencode(answer)}"

    def token(self, form: Mapping[str, str]) -> Mapping[str, object]:
        """The token endpoint's good answer.

        Raises:
            RefusedError: with the code of its bad one.
        """
        self._identify(form)
        kind = form.get("grant_type")
        if kind == "authorization_code":
            return self._issue(self._by_code(form))
        if kind == "refresh_token":
            return self._issue(self._by_refresh(form.get("refresh_token", "")))
        raise RefusedError("unsupported_grant_type")

    def revoke(self, form: Mapping[str, str]) -> None:
        """End the grant of a token; an unknown one is no error (RFC 7009 §2.2)."""
        self._identify(form)
        token = form.get("token", "")
        grant = self._refresh.get(token) or self._access.get(token)
        if grant is not None:
            grant.live = False

    def withdraw(self, account: str) -> None:
        """That person takes the app's access away, in the account's settings: all its grants end."""
        for grant in self._access.values():
            if grant.account == account:
                grant.live = False

    def account(self, access_token: str) -> str | None:
        """Whose a living access token is."""
        grant = self._access.get(access_token)
        if grant is None or not grant.live or grant.access[access_token] <= self._clock():
            return None
        return grant.account

    def _identify(self, form: Mapping[str, str]) -> None:
        given = form.get("client_secret", "")
        if form.get("client_id") != CLIENT_ID or not hmac.compare_digest(
            given.encode(), self._secret.encode()
        ):
            raise RefusedError("invalid_client")

    def _by_code(self, form: Mapping[str, str]) -> _Grant:
        grant = self._codes.get(form.get("code", ""))
        if grant is None or not grant.live:
            raise RefusedError("invalid_grant")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        late = grant.made_at + _CODE_LIFE_S <= self._clock()
        if grant.code_spent or late or form.get("redirect_uri") != grant.asked.redirect_uri:
            grant.live = False
            raise RefusedError("invalid_grant")
        if not hmac.compare_digest(challenge, grant.asked.challenge):
            raise RefusedError("invalid_grant")
        grant.code_spent = True
        return grant

    def _by_refresh(self, token: str) -> _Grant:
        reused = self._spent.get(token)
        if reused is not None:
            reused.live = False
        grant = self._refresh.pop(token, None)
        if grant is None or not grant.live:
            raise RefusedError("invalid_grant")
        self._spent[token] = grant
        return grant

    def _issue(self, grant: _Grant) -> Mapping[str, object]:
        access, refresh = (
            f"sbx-access-{secrets.token_urlsafe(24)}",
            f"sbx-refresh-{secrets.token_urlsafe(24)}",
        )
        grant.access = {access: self._clock() + ACCESS_LIFE_S}
        self._access[access], self._refresh[refresh] = grant, grant
        return {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": ACCESS_LIFE_S,
            "scope": " ".join(grant.scopes),
        }
