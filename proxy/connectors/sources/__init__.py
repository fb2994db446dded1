"""Where credentials come from: one module a kind, all behind :class:`Source`."""

from typing import Protocol

from proxy.connectors.model import Credential

SOLE_CONNECTION = "default"
"""The connection's name where a source knows one account a service."""


class Source(Protocol):
    """Gives credentials for one or more services. ``connection`` None means the service's default one."""

    def ready(self, service: str, connection: str | None) -> Credential | None:
        """A credential that is good right now, from memory; the same object while nothing changed."""
        ...

    async def obtain(self, service: str, connection: str | None) -> Credential:
        """A good credential, fetched if need be.

        Raises:
            RequestError: an AccountError, UnavailableError or CredentialInvalid that tells why there is none.
        """
        ...

    async def refused(self, credential: Credential) -> Credential | None:
        """The service refused ``credential``: a newer one, or None when there is no better."""
        ...

    async def close(self) -> None:
        """Let go of connections and tasks."""
        ...
