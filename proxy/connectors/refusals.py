"""Why there is no token, in words for callers: what a person has to do about it."""

from proxy.catalog.model import Catalog, Service
from proxy.connectors.causes import COPY, DAMAGED, cause_of, remedy_of
from proxy.connectors.model import Connection
from proxy.connectors.snapshot import Held, Snapshot
from proxy.errors import AccountError, AmbiguousConnection, NotConnected, ReauthorizationRequired

_NOT_HERE = frozenset({"copy", "frozen", "removed"})


def why_not(
    catalog: Catalog, snapshot: Snapshot, service: str, name: str | None, *, is_copy: bool = False
) -> AccountError:
    """Why a service, or its connection of that name, has no token to give."""
    known = catalog.get(service)
    title = service if known is None else known.title
    held = snapshot.find(service, name)
    if held is not None:
        return _why_unusable(known, title, held, is_copy=is_copy)
    of_service = snapshot.by_service.get(service, ())
    names = ", ".join(repr(one) for one in of_service)
    if not of_service:
        return NotConnected(
            f"{title} is not connected: connect an account with '{_connect(known, service, None)}'",
            service=service,
            connection=name,
        )
    if name is not None:
        return NotConnected(
            f"{title} has no connection {name!r}, it has {names}", service=service, connection=name
        )
    return AmbiguousConnection(
        f"{title} has several connections and no default: name one of {names} as {service}@NAME, "
        f"or set one with 'connector-proxy connections default {service}@NAME'",
        service=service,
    )


def removed(connection: Connection) -> AccountError:
    """It is not there any more."""
    return NotConnected(
        f"the connection {connection.service}@{connection.name} was removed",
        service=connection.service,
        connection=connection.name,
    )


def lost(connection: Connection, reason: str, cause: str | None) -> AccountError:
    """Why a refresh leads nowhere (``refresh.lease.Unfit``)."""
    about = f"{connection.service}@{connection.name}"
    code = cause or connection.cause
    kind = NotConnected if reason in _NOT_HERE else ReauthorizationRequired
    return kind(
        f"{about} {cause_of(code).sentence}: {remedy_of(code, connection.service, connection.name)}",
        service=connection.service,
        connection=connection.name,
    )


def _connect(service: Service | None, type_id: str, name: str | None) -> str:
    """The command that connects, with values for a person to fill in; without OAuth data it wants a token."""
    params = () if service is None else service.params.values()
    needed = "".join(
        f" --param {param.name}=..."
        for param in params
        if param.required and not param.informational and _is_asked(service, param.source)
    )
    named = "" if name is None else f" --connection {name}"
    given = "" if service is not None and service.oauth is not None else " --access-token-stdin < token-file"
    return f"connector-proxy connect {type_id}{named}{needed}{given}"


def _is_asked(service: Service | None, source: str) -> bool:
    """With a flow only what the provider does not tell has to be given."""
    return service is None or service.oauth is None or source == "user"


def _why_unusable(service: Service | None, title: str, held: Held, *, is_copy: bool) -> AccountError:
    connection = held.connection
    if connection.state == "frozen":
        return _frozen(connection)
    if is_copy:
        return lost(connection, "copy", COPY)
    about = f"{connection.service}@{connection.name}"
    again = f"'{_connect(service, connection.service, connection.name)}'"
    if connection.cause == DAMAGED:
        detail = f"the stored token of {title} ({about}) is damaged: store a new one with {again}"
    elif connection.state == "reauthorization_required":
        sentence = cause_of(connection.cause).sentence
        detail = f"{title} needs a person ({connection.cause}): {about} {sentence}; connect it with {again}"
    else:
        detail = f"the token of {title} ({about}) has expired; store a new one with {again}"
    return ReauthorizationRequired(detail, service=connection.service, connection=connection.name)


def _frozen(connection: Connection) -> AccountError:
    return NotConnected(
        f"the connection {connection.service}@{connection.name} is frozen ({connection.cause}): "
        "an operator has to thaw it",
        service=connection.service,
        connection=connection.name,
    )
