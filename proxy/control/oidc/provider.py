"""The identity provider: its documents, kept for a while, and the way from a code to who it is."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.connectors.oauth.bodies import UnreadableError
from proxy.connectors.oauth.endpoint import NoAnswerError, TokenEndpoint
from proxy.connectors.oauth.messages import Outgoing
from proxy.connectors.users import Account
from proxy.control.oidc import messages
from proxy.control.oidc.admission import Admission
from proxy.control.oidc.attempt import Attempt
from proxy.control.oidc.identity import Proof, UnknownKeyError, verified_claims
from proxy.control.oidc.messages import Client, Given
from proxy.control.oidc.metadata import Metadata, discovery_address, read_metadata
from proxy.control.oidc.refusals import SignInRefused

KEPT_S = 3600.0
_PAUSE_S = 5.0  # between two tries of a provider that does not answer, whoever asks
_OK = 200


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A provider's documents, and when they came."""

    metadata: Metadata
    keys: Sequence[Mapping[str, Any]]
    at: float


class IdentityProvider:
    """See the module.

    Args:
        issuer: as the settings spell it.
        client: our app there.
        admission: which claims are wanted.
        endpoint: the way out, under the egress rules.
        clock: epoch seconds.
    """

    def __init__(
        self,
        issuer: str,
        client: Client,
        admission: Admission,
        endpoint: TokenEndpoint,
        clock: Callable[[], float],
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._admission = admission
        self._endpoint = endpoint
        self._clock = clock
        self._kept: _Kept | None = None
        self._failed: tuple[float, SignInRefused] | None = None
        self._asking = asyncio.Lock()

    async def departure(self, attempt: Attempt) -> str:
        """The provider's address for an attempt.

        Raises:
            SignInRefused: the provider's documents cannot be had.
        """
        return messages.authorization_address((await self._documents()).metadata, self._client, attempt)

    async def identify(
        self, query: Sequence[tuple[str, str]], attempt: Attempt
    ) -> tuple[Account, Mapping[str, Any]]:
        """Who it is that an answer with the right state speaks of, and their claims.

        Raises:
            SignInRefused: it proves nobody.
        """
        metadata = (await self._documents()).metadata
        code = messages.code_of(query, metadata)
        asked = messages.token_request(metadata, self._client, code, attempt)
        given = messages.read_tokens(*await self._fetch(asked))
        claims = await self._verified(given, attempt)
        account = Account(self._issuer, self._client.client_id, str(claims["sub"]))
        return account, await self._completed(metadata, given, claims)

    async def leaving(self) -> str | None:
        """Where a person may end the provider's session too; None where it offers none or cannot be asked."""
        try:
            return messages.leaving_address((await self._documents()).metadata, self._client)
        except SignInRefused:
            return None

    async def _verified(self, given: Given, attempt: Attempt) -> Mapping[str, Any]:
        """The ID token's claims; an unknown key is looked for once among the provider's keys of now."""
        proof = Proof(self._issuer, self._client.client_id, attempt.nonce)
        for newest in (False, True):
            keys = (await self._documents(newest=newest)).keys
            try:
                return verified_claims(given.id_token, keys, proof, self._clock())
            except UnknownKeyError:
                continue
        raise SignInRefused("token_invalid", why="it is signed with a key that the provider does not list")

    async def _completed(
        self, metadata: Metadata, given: Given, claims: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Those of the userinfo endpoint where the ID token is too thin; never a mixture of the two."""
        if (
            self._admission.has_all(claims)
            or metadata.userinfo_endpoint is None
            or given.access_token is None
        ):
            return claims
        status, told = await self._fetch(messages.get(metadata.userinfo_endpoint, given.access_token))
        if status != _OK or told.get("sub") != claims["sub"]:  # §5.3.2: it may speak of somebody else
            return claims
        return told if self._admission.email_claim in told else claims

    # --- documents ----------------------------------------------------------------------------------------

    async def _documents(self, *, newest: bool = False) -> _Kept:
        """Discovery document and keys, one fetch at a time for all who wait."""
        seen = self._kept
        async with self._asking:
            kept, now = self._kept, self._clock()
            if kept is not None and (kept is not seen or (not newest and 0 <= now - kept.at < KEPT_S)):
                return kept
            if self._failed is not None and 0 <= now - self._failed[0] < _PAUSE_S:
                failed = self._failed[1]
                raise SignInRefused(failed.reason, failed.detail, failed.why)
            try:
                self._kept = _Kept(*await self._fetch_documents(), now)
            except SignInRefused as refused:
                self._failed = (self._clock(), refused)
                raise
            return self._kept

    async def _fetch_documents(self) -> tuple[Metadata, Sequence[Mapping[str, Any]]]:
        document = await self._document(discovery_address(self._issuer))
        metadata = read_metadata(document, self._issuer, has_secret=self._client.secret is not None)
        keys = (await self._document(metadata.jwks_uri)).get("keys")
        if not isinstance(keys, list):
            raise SignInRefused("provider_unreadable", "Its list of keys is none.", why="no JWK set")
        return metadata, tuple(one for one in keys if isinstance(one, dict))

    async def _document(self, address: str) -> dict[str, Any]:
        status, document = await self._fetch(messages.get(address))
        if status != _OK:
            text = f"{address} answers with status {status}."
            reason = "provider_unreachable" if messages.is_for_now(status) else "provider_unreadable"
            raise SignInRefused(reason, text, why=text)
        return document

    async def _fetch(self, outgoing: Outgoing) -> tuple[int, dict[str, Any]]:
        try:
            return await self._endpoint.fetch(outgoing)
        except NoAnswerError as error:
            raise SignInRefused("provider_unreachable", why=str(error)) from None
        except UnreadableError as error:
            text = f"What {outgoing.url} answers {error}."
            raise SignInRefused("provider_unreadable", text, why=text) from None
