"""One attempt to sign in, held by the browser alone: no row, no memory, any instance can take the answer.

The browser's cookie holds 256 random bits, when the attempt ends and where to go then. State, nonce and PKCE
verifier are derived from all of it, so an answer counts only in the browser that began (R95, R97), and the
addresses that are seen on the way tell nothing about the cookie.
"""

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass

from proxy.secret import Secret

LIFE_S = 600.0
MAX_COOKIE = 2048
_LONGEST_RETURN = 1024


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the browser keeps. ``return_to``: where it goes once signed in, which is to be checked again."""

    kept: Secret
    expires_at: int
    return_to: str

    @classmethod
    def begin(cls, return_to: str, now: float) -> "Attempt":
        """A fresh one; a ``return_to`` too long for a cookie is forgotten."""
        place = return_to if len(return_to) <= _LONGEST_RETURN else "/"
        expires_at = int(now + LIFE_S)
        text = base64.urlsafe_b64encode(place.encode()).decode()
        return cls(Secret(f"{secrets.token_urlsafe(32)}.{expires_at}.{text}"), expires_at, place)

    @classmethod
    def read(cls, kept: Secret | None, now: float) -> "Attempt | None":
        """The attempt of a cookie; None where there is none, or no longer."""
        try:
            secret, expires, text = kept.reveal().split(".") if kept is not None else ("", "0", "")
            expires_at, place = int(expires), base64.urlsafe_b64decode(text).decode()
        except (ValueError, binascii.Error):
            return None
        return cls(kept, expires_at, place) if kept is not None and secret and now < expires_at else None

    @property
    def state(self) -> Secret:
        """Comes back in the answer (RFC 6749 §10.12)."""
        return self._derived("state")

    @property
    def nonce(self) -> Secret:
        """Comes back in the ID token (OpenID Connect Core §3.1.2.1)."""
        return self._derived("nonce")

    @property
    def verifier(self) -> Secret:
        """Goes with the code (RFC 7636 §4.1): 43 letters."""
        return self._derived("verifier")

    def is_state(self, given: str) -> bool:
        """Whether an answer is one to this attempt."""
        return hmac.compare_digest(given.encode(errors="replace"), self.state.reveal().encode())

    def _derived(self, purpose: str) -> Secret:
        label = f"connector-proxy oidc {purpose}".encode()
        made = hmac.digest(self.kept.reveal().encode(), label, "sha256")
        return Secret(base64.urlsafe_b64encode(made).rstrip(b"=").decode())
