"""Which other connections the end of one grant at its provider would touch. Pure."""

from proxy.catalog.grants import OAuth
from proxy.catalog.model import Catalog
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.snapshot import Held, Snapshot


def touched(snapshot: Snapshot, catalog: Catalog, connection: Connection, tokens: Tokens | None) -> list[str]:
    """As ``service@name``: those whose grant may be the same at the provider.

    Where revoking is shared: all through an app of that family. Otherwise those that hold one of these
    tokens: providers may give one person the same token twice.
    """
    oauth, ours = _oauth(catalog, connection), _texts(tokens)
    is_shared = oauth is not None and oauth.revoke_shared

    def is_touched(held: Held) -> bool:
        if not is_shared:
            return bool(ours & _texts(held.tokens))
        known = _oauth(catalog, held.connection)
        same = oauth is not None and known is not None and known.family == oauth.family
        return same and held.connection.registration is not None

    return [
        f"{held.connection.service}@{held.connection.name}"
        for connection_id, held in snapshot.held.items()
        if connection_id != connection.connection_id and is_touched(held)
    ]


def _oauth(catalog: Catalog, connection: Connection) -> OAuth | None:
    service = catalog.get(connection.service)
    return None if service is None else service.oauth


def _texts(tokens: Tokens | None) -> set[str]:
    if tokens is None:
        return set()
    return {token.reveal() for token in (tokens.access_token, tokens.refresh_token) if token}
