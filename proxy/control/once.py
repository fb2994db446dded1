"""Creations that may be asked for again: by a program with a key of its own, by a form that is sent twice.

The first answer is kept for a while, and a repetition gets the same one, also where it holds a key that is
shown once. It is sealed with a key made of the credential that asked, of which we store only a hash: neither
the vault nor its master key opens it, and nobody but the first asker gets it.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy import log
from proxy.connectors.vault import Vault
from proxy.errors import ConnectorProxyError, StoreError
from proxy.operations.operation import Asked, Document, Operation
from proxy.secret import Secret

UNDER_WAY_S = 120.0  # longer than any request may take; afterwards the process that took it is gone
_NONCE = 12


class OtherRequestError(ConnectorProxyError):
    """This key came with another request before."""


class UnderWayError(ConnectorProxyError):
    """The first request with this key is not answered yet."""


@dataclass(frozen=True, slots=True)
class Once:
    """A creation with a key: what identifies it, what it asks, and what seals its answer."""

    key_digest: bytes
    request_digest: bytes
    sealing: bytes

    @classmethod
    def of(cls, key: str, credential: Secret, operation: Operation, asked: Asked) -> "Once":
        """Every part is keyed with the credential, so that nothing stored can be guessed at."""
        proof = credential.reveal().encode()

        def keyed(purpose: str, text: str) -> bytes:
            return hmac.digest(proof, f"idempotency {purpose}\0{text}".encode(), hashlib.sha256)

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


async def create(
    vault: Vault, once: Once, now: float, run: Callable[[], Awaitable[Document]], *, kept_s: float
) -> tuple[Document, bool]:
    """Run a creation, or give the answer that it had before; and whether it had one.

    Args:
        vault: keeps the answer.
        once: the creation.
        now: seconds since the epoch.
        run: creates.
        kept_s: how long its answer is kept.

    Raises:
        OtherRequestError, UnderWayError: see there.
        StoreError: see Vault.
    """
    found = await vault.claim_creation(once.key_digest, once.request_digest, expires_at=now + UNDER_WAY_S)
    if found is not None:
        if not hmac.compare_digest(found.request_digest, once.request_digest):
            raise OtherRequestError
        if found.sealed is None:
            raise UnderWayError
        return once.open(found.sealed), True
    try:
        document = await run()
    except BaseException:
        await _forget(vault, once)
        raise
    try:
        await vault.answer_creation(once.key_digest, once.seal(document), expires_at=now + kept_s)
    except StoreError:  # it is made; a repetition learns that its name is taken
        log.event("answer_not_kept", level="warning")
    return document, False


async def _forget(vault: Vault, once: Once) -> None:
    try:
        await vault.drop_claim(once.key_digest)
    except StoreError:
        log.event("claim_not_dropped", level="warning")
