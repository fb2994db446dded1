"""Who may come in to the admin API: admin tokens, and browsers that are signed in."""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from proxy import log, problems
from proxy.admintokens import Scope, grants, token_id_of
from proxy.connectors.vault import Vault
from proxy.control.api.refusals import Refused
from proxy.control.browsers import form_token
from proxy.control.operating import ROLE_SCOPES
from proxy.control.signin import SignIn
from proxy.errors import StoreError
from proxy.keys import PREFIX, digest
from proxy.operations.operation import Endpoint
from proxy.secret import Secret

CSRF_HEADER = "X-CSRF-Token"
_SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks. ``actor``: for the audit; ``credential``: what proved it, which is stored nowhere."""

    actor: str
    scopes: frozenset[Scope]
    credential: Secret


@dataclass(frozen=True, slots=True)
class Door:
    """Knows askers. ``clock``: seconds since the epoch."""

    vault: Vault
    sign_in: SignIn
    clock: Callable[[], float] = time.time

    async def admit(self, request: web.Request, operation: Endpoint | None) -> Asker:
        """Who asks, if they may; ``operation`` None: any scope will do.

        Raises:
            Refused: there is no credential, it is not good, or may not do this.
            StoreError: that cannot be told.
        """
        given = request.headers.getall(hdrs.AUTHORIZATION, [])
        asker = await (self._by_token(given) if given else self._by_session(request))
        if operation is not None and not grants(asker.scopes, operation.scopes):
            raise Refused(
                problems.INSUFFICIENT_SCOPE,
                f"this takes the scope {' or '.join(operation.scopes)}",
                headers={"WWW-Authenticate": _insufficient(operation.scopes)},
            )
        return asker

    async def _by_token(self, given: list[str]) -> Asker:
        scheme, _, presented = given[0].partition(" ")
        presented = presented.strip()
        if len(given) != 1 or scheme.lower() != "bearer":
            raise Refused(problems.INVALID_TOKEN, "say 'Authorization: Bearer' and an admin token, once")
        if presented.startswith(PREFIX):
            raise Refused(problems.INVALID_TOKEN, "this is a proxy key: here an admin token is needed")
        token_id = token_id_of(presented)
        record = None if token_id is None else await self.vault.admin_token(token_id)
        now = self.clock()
        right = record is not None and hmac.compare_digest(record.digest, digest(presented.encode()))
        if record is None or not right or not record.is_live(now):
            log.event("admin_token_refused", level="warning", token_id=token_id if right else None)
            raise Refused(problems.INVALID_TOKEN, "the admin token is unknown, revoked or expired")
        try:
            await self.vault.note_token_use(record, now)
        except StoreError:
            log.event("token_use_not_stored", level="warning", token_id=token_id)
        return Asker(f"token:{record.name}", record.scopes, Secret(presented))

    async def _by_session(self, request: web.Request) -> Asker:
        visitor = await self.sign_in.visitor(request)
        if visitor is None:
            raise Refused(problems.INVALID_TOKEN, "an admin token is needed: 'Authorization: Bearer cpa_...'")
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            raise Refused(problems.INSUFFICIENT_SCOPE, "the request comes from another site")
        given = request.headers.get(CSRF_HEADER, "")
        is_ours = hmac.compare_digest(given.encode("utf-8", "replace"), form_token(visitor.session).encode())
        if request.method not in _SAFE and not is_ours:
            raise Refused(
                problems.INSUFFICIENT_SCOPE,
                f"a signed-in browser has to send {CSRF_HEADER} with its page's token",
            )
        return Asker(visitor.actor, ROLE_SCOPES[visitor.role], visitor.session)


def _insufficient(scopes: tuple[Scope, ...]) -> str:
    """RFC 6750 section 3.1."""
    return f'Bearer realm="connector-proxy", error="insufficient_scope", scope="{" ".join(scopes)}"'
