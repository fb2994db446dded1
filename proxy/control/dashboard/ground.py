"""What the dashboard stands on: parts of the running server that its pages show and change."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.budgets import Budgets
from proxy.catalog.model import Catalog
from proxy.connecting import Connecting
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.vault import Vault
from proxy.control.html import Pages
from proxy.control.operating import Operating
from proxy.control.signin import SignIn
from proxy.feed import Feed
from proxy.history import History
from proxy.keys import KeyRecord
from proxy.settings import Settings
from proxy.snippets import Places


@dataclass(frozen=True, slots=True)
class Ground:
    """See the module.

    Args:
        operating: does what forms ask for, as the admin API does it.
        settings: in force now; catalog: likewise.
        keys: those of vault and settings, by id.
        places: where callers reach the data plane.
        feed: requests as they happen; history: the last hour;
            budgets: what services say is left of their limits.
        account_uses: when connections were used last since the start, by id (epoch seconds).
        clock: seconds since the epoch.
    """

    vault: Vault
    registrations: Registrations
    connecting: Connecting
    operating: Operating
    pages: Pages
    sign_in: SignIn
    settings: Callable[[], Settings]
    catalog: Callable[[], Catalog]
    keys: Callable[[], Mapping[str, KeyRecord]]
    places: Callable[[], Places]
    feed: Feed
    history: History
    budgets: Callable[[], Budgets]
    account_uses: Callable[[], Mapping[str, float]] = dict
    clock: Callable[[], float] = time.time

    @property
    def public_url(self) -> str:
        """Origin of the control plane as browsers reach it."""
        return self.connecting.flows.public_url
