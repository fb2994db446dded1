"""Creations that a caller may repeat: ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header).

The first answer is kept for a day, and a repetition gets the same one, also where it holds a key that is
shown once. It is sealed with a key made of the credential that asked, of which we store only a hash: neither
the vault nor its master key opens it, and nobody but the first asker gets it.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy import log, problems
from proxy.connectors.vault import Vault
from proxy.control.api.door import Asker
from proxy.control.api.refusals import RETRY_S, Refused
from proxy.errors import Fault, StoreError
from proxy.operations.operation import Asked, Document, Operation

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_S = 86_400.0
UNDER_WAY_S = 120.0  # longer than any request may take; afterwards the process that took it is gone
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)  # RFC 9651 section 3.3.3
_BARE = re.compile(r"[!#-~]+", re.ASCII)  # what most clients send
_MAX = 255
_NONCE = 12


@dataclass(frozen=True, slots=True)
class Once:
    """A creation with a key: what identifies it, what it asks, and what seals its answer."""

    key_digest: bytes
    request_digest: bytes
    sealing: bytes

    @classmethod
    def of(cls, key: str, asker: Asker, operation: Operation, asked: Asked) -> "Once":
        """Every part is keyed with the credential, so that nothing stored can be guessed at."""
        credential = asker.credential.reveal().encode()

        def keyed(purpose: str, text: str) -> bytes:
            return hmac.digest(credential, f"idempotency {purpose}\0{text}".encode(), hashlib.sha256)

        body = json.dumps(asked.body, sort_keys=True)
        request = f"{operation.name}\0{json.dumps(dict(asked.path))}\0{body}"
        return cls(keyed("key", key), keyed("request", request), keyed("sealing", key))

    def seal(self, document: Document) -> bytes:
        """The answer, for whoever asks the same again."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + AESGCM(self.sealing).encrypt(nonce, json.dumps(document).encode(), self.request_digest)

    def open(self, sealed: bytes) -> Document:
        """The answer that was sealed.

        Raises:
            StoreError: it is damaged.
        """
        try:
            plain = AESGCM(self.sealing).decrypt(sealed[:_NONCE], sealed[_NONCE:], self.request_digest)
        except InvalidTag:
            raise StoreError("a kept answer is damaged", reason="corrupt") from None
        found: Document = json.loads(plain)
        return found


def key_of(request: web.Request) -> str | None:
    """The request's idempotency key, or None.

    Raises:
        Refused: it is malformed, or there are two.
    """
    given = request.headers.getall(HEADER, [])
    if not given:
        return None
    text = given[0].strip()
    quoted = _STRING.fullmatch(text)
    key = quoted.group(1) if quoted is not None else text if _BARE.fullmatch(text) else ""
    if len(given) != 1 or not 0 < len(key) <= _MAX:
        message = f'is one text of up to {_MAX} characters, such as "8e03978e-40d5-43dd-bc93-6894a57f9324"'
        raise Refused(problems.INVALID_REQUEST, "the idempotency key is malformed", [Fault(HEADER, message)])
    return key


async def create(
    vault: Vault, once: Once, now: float, run: Callable[[], Awaitable[Document]]
) -> tuple[Document, bool]:
    """Run a creation, or give the answer that it had before; and whether it had one.

    Raises:
        Refused: the key came with another request, or the first one is still under way.
        StoreError: see Vault.
    """
    found = await vault.claim_creation(once.key_digest, once.request_digest, expires_at=now + UNDER_WAY_S)
    if found is not None:
        if not hmac.compare_digest(found.request_digest, once.request_digest):
            raise Refused(
                problems.IDEMPOTENCY_KEY_REUSED, "this idempotency key came with another request before"
            )
        if found.sealed is None:
            raise Refused(
                problems.IDEMPOTENCY_IN_PROGRESS,
                "the first request with this idempotency key is not answered yet",
                headers={"Retry-After": str(RETRY_S)},
            )
        return once.open(found.sealed), True
    try:
        document = await run()
    except BaseException:
        await _forget(vault, once)
        raise
    try:
        await vault.answer_creation(once.key_digest, once.seal(document), expires_at=now + KEPT_S)
    except StoreError:  # it is made; a repetition learns that its name is taken
        log.event("answer_not_kept", level="warning")
    return document, False


async def _forget(vault: Vault, once: Once) -> None:
    try:
        await vault.drop_claim(once.key_digest)
    except StoreError:
        log.event("claim_not_dropped", level="warning")
