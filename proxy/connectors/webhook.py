"""The operator's webhook: notices of the outbox, signed, sent until they are taken or a day old.

Signed as Standard Webhooks 1.0 (https://www.standardwebhooks.com): the header ``webhook-signature`` holds
``v1,`` and the base64 of HMAC-SHA256 over ``{webhook-id}.{webhook-timestamp}.{body}``. A notice may arrive
more than once, with the same id.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import random
from collections.abc import Callable

import aiohttp
from yarl import URL

from proxy.connectors import notices
from proxy.connectors.notices import Notice
from proxy.connectors.store import Store
from proxy.errors import StateError, StoreError
from proxy.secret import Secret

POLL_S = 1.0
TIMEOUT_S = 15.0
OUTCOMES = ("delivered", "failed", "dropped")
_PREFIX = "whsec_"
_LEAST_KEY = 24


def signing_key(secret: Secret) -> bytes:
    """The bytes to sign with: what follows ``whsec_`` decoded, or the text itself.

    Raises:
        ValueError: under 24 bytes, or no base64 behind ``whsec_``.
    """
    text = secret.reveal()
    if text.startswith(_PREFIX):
        try:
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"what follows {_PREFIX} is not base64") from None
    else:
        key = text.encode()
    if len(key) < _LEAST_KEY:
        raise ValueError(f"is under {_LEAST_KEY} bytes: make one with 'openssl rand -base64 32'")
    return key


def signature(key: bytes, notice_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header ``webhook-signature``."""
    signed = f"{notice_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class WebhookSender:
    """Sends notices. Any number of processes may: each notice is claimed by one at a time.

    Args:
        store: with the outbox.
        url: where to send; redirects are not followed.
        key: see :func:`signing_key`.
        make_connector: an address -> a connector that obeys the egress rules.
        clock: epoch seconds.
        on_outcome: told one of ``OUTCOMES`` and, of a failure, why.
    """

    def __init__(
        self,
        store: Store,
        url: str,
        key: bytes,
        *,
        make_connector: Callable[[str], aiohttp.BaseConnector],
        clock: Callable[[], float],
        on_outcome: Callable[[str, str], None],
    ) -> None:
        self._store = store
        self._url = url
        self._key = key
        self._make_connector = make_connector
        self._clock = clock
        self._on_outcome = on_outcome

    async def run(self) -> None:
        """Send what is due, again and again, until cancelled; a store that fails is asked again later."""
        while True:
            busy = False
            with contextlib.suppress(StoreError, StateError):
                busy = await self.send_one()
            if not busy:
                await asyncio.sleep(POLL_S)

    async def send_one(self) -> bool:
        """Send the oldest notice that is due; False when none is.

        Raises:
            StoreError: the outbox cannot be used; what was sent may be sent again.
        """
        async with self._store.snapshot() as reading:
            if not await notices.is_due(reading, self._clock()):
                return False  # without taking the lock of writers
        async with self._store.transaction() as transaction:
            notice = await notices.claim(transaction, self._clock())
        if notice is None:
            return False
        fault = await self._post(notice)
        async with self._store.transaction() as transaction:
            if fault is None:
                await notices.delivered(transaction, notice)
                outcome = "delivered"
            elif await notices.failed(transaction, notice, self._clock(), random.random()):  # noqa: S311  # spreads load
                outcome = "failed"
            else:
                outcome = "dropped"
        self._on_outcome(outcome, fault or "")
        return True

    async def _post(self, notice: Notice) -> str | None:
        """None when it was taken, otherwise why not; never text of the other side."""
        body, timestamp = notice.body.encode(), int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "connector-proxy",
            "webhook-id": notice.notice_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._key, notice.notice_id, timestamp, body),
        }
        try:
            async with (
                aiohttp.ClientSession(
                    connector=self._make_connector(self._url),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                ) as session,
                session.post(
                    URL(self._url, encoded=True), data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                return None if 200 <= answer.status < 300 else f"status {answer.status}"  # noqa: PLR2004  # 2xx
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return type(error).__name__
