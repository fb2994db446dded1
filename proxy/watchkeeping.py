"""What is told of the vault from the side of a server that runs once: metrics, warnings, the webhook."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import get_args

from proxy import log
from proxy.assembly.providers import webhook_key
from proxy.connectors import expiring
from proxy.connectors.model import State
from proxy.connectors.vault import Vault
from proxy.connectors.webhook import OUTCOMES, WebhookSender
from proxy.core import Core
from proxy.errors import StateError, StoreError
from proxy.token_session import session_connector

WARN_EVERY_S = 3600.0


class Watchkeeper:
    """Made once a server, before it starts.

    Raises:
        ConfigurationError: the webhook's secret cannot be used.
    """

    def __init__(self, core: Core, vault: Vault) -> None:
        self._core = core
        self._vault = vault
        self._outcomes = dict.fromkeys(OUTCOMES, 0)
        self._sender = self._sender_of(core, vault)
        metrics = core.metrics
        metrics.gauge("connections", "Connections of the vault, by state", self._states, label="state")
        metrics.gauge("vault_is_copy", "1: nothing is refreshed until the vault is adopted", self._is_copy)
        if self._sender is not None:
            metrics.counter(
                "webhook_deliveries", "Attempts to deliver notices", lambda: self._outcomes, label="outcome"
            )

    def start(self) -> None:
        """Warn and send from now on."""
        self._core.keep(self._warn, "warnings")
        if self._sender is not None:
            self._core.keep(self._sender.run, "webhook")

    def _sender_of(self, core: Core, vault: Vault) -> WebhookSender | None:
        url, key = core.settings.webhook.url, webhook_key(core.settings)
        if url is None or key is None:
            return None
        return WebhookSender(
            vault.store,
            url,
            key,
            make_connector=lambda address: session_connector(core.dialer, address),
            clock=time.time,
            on_outcome=self._sent,
        )

    def _sent(self, outcome: str, fault: str) -> None:
        self._outcomes[outcome] += 1
        if outcome != "delivered":
            log.event("webhook_failed", level="warning", outcome=outcome, reason=fault)

    def _states(self) -> Mapping[str, float]:
        return {**dict.fromkeys(get_args(State), 0), **self._vault.states()}

    def _is_copy(self) -> float:
        return float(self._vault.is_copy)

    async def _warn(self) -> None:
        while True:
            with contextlib.suppress(StoreError, StateError):
                await expiring.warn(self._vault, time.time())
            await asyncio.sleep(WARN_EVERY_S)
