"""How long a request waits for its account's token, for whoever looks on."""

from collections.abc import Callable

from proxy.connectors.model import Credential
from proxy.connectors.module import Obtain
from proxy.forwarding.record import Record


def timed(obtain: Obtain, record: Record, clock: Callable[[], float]) -> Obtain:
    """The same, with the wait noted in the record. ``clock``: monotonic seconds."""

    async def noted(service: str, connection: str | None) -> Credential:
        since = clock()
        try:
            return await obtain(service, connection)
        finally:
            record.token_s += clock() - since

    return noted
