"""Connections: tokens that are handed in, finding one, showing one."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.catalog.model import Scheme
from proxy.catalog.reader import nearest
from proxy.connecting import missing_scopes
from proxy.connectors.causes import remedy_of
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.refresh import states
from proxy.connectors.sources.answer import read_access_token, read_expires_at, read_object
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, ConflictError, Fault, MissingError
from proxy.operations.moments import rfc3339
from proxy.secret import Secret

SCHEMES: tuple[Scheme, ...] = ("bearer", "bot", "raw", "token", "basic")


def parse_params(texts: Iterable[str]) -> Mapping[str, str]:
    """``k=v`` texts as a map; the values are judged by the catalog.

    Raises:
        ConfigurationError: no ``=``, or a name twice; values are not repeated.
    """
    faults: list[Fault] = []
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            faults.append(Fault("--param", "is written name=value"))
        elif name in found:
            faults.append(Fault("--param", f"{name[:60]} is there twice"))
        else:
            found[name] = value
    if faults:
        raise ConfigurationError(*faults)
    return found


@dataclass(frozen=True, slots=True)
class Granted:
    """What a person or program handed in about an account."""

    tokens: Tokens
    scopes: tuple[str, ...] = ()


def read_tokens(body: bytes, *, now: float) -> Granted:
    """A token answer (RFC 6749 §5.1): access_token, refresh_token, expires_in or expires_at, scope.

    Raises:
        ConfigurationError: it cannot be used; nothing of it is repeated.
    """
    try:
        answer = read_object(body)
        access = read_access_token(answer)
        expires_at = read_expires_at(answer)
        refresh, scope = _text(answer, "refresh_token"), _text(answer, "scope")
        lifetime = answer.get("expires_in")
        if lifetime is not None and expires_at is None:
            expires_at = now + _lifetime(lifetime)
    except ValueError as error:
        raise ConfigurationError(Fault("standard input", f"cannot be used: {error}")) from None
    tokens = Tokens(Secret(access), None if refresh is None else Secret(refresh), expires_at)
    return Granted(tokens, tuple(re.split(r"[ ,]+", scope.strip())) if scope else ())


def _text(answer: Mapping[str, object], name: str) -> str | None:
    found = answer.get(name)
    if found is None or isinstance(found, str):
        return found or None
    raise ValueError(f"its {name} is not a text")


def _lifetime(given: object) -> float:
    try:
        seconds = (
            float(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else -1.0
        )
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 10 * 366 * 86_400:
        raise ValueError("its expires_in is not a number of seconds")
    return seconds


def parse_address(text: str, vault: Vault) -> tuple[str, str]:
    """``SERVICE@NAME`` or ``SERVICE``, which means its default or only connection.

    Raises:
        MissingError: there is none.
        ConflictError: it is not clear which.
    """
    service, at, name = text.partition("@")
    if at:
        return service, name
    names = [one.name for one in vault.connections() if one.service == service]
    defaults = [one.name for one in vault.connections() if one.service == service and one.is_default]
    if not names:
        hint = nearest(service, {one.service for one in vault.connections()})
        raise MissingError(Fault(service[:60], f"has no connection{hint}"))
    if len(names) > 1 and not defaults:
        raise ConflictError(Fault(service, f"has several connections: say {service}@ and one of {names}"))
    return service, (defaults or names)[0]


def find_connection(vault: Vault, text: str) -> Connection:
    """The connection of that address.

    Raises:
        MissingError: there is none.
        ConflictError: it is not clear which.
    """
    service, name = parse_address(text, vault)
    for one in vault.connections():
        if (one.service, one.name) == (service, name):
            return one
    raise MissingError(Fault(text[:120], "there is no such connection"))


def connection_document(one: Connection) -> Mapping[str, object]:
    """A connection as it is listed; never a token."""
    return {
        "id": one.connection_id,
        "service": one.service,
        "name": one.name,
        "default": one.is_default,
        "state": one.state,
        "cause": one.cause,
        "account": one.account,
        "scopes": list(one.scopes),
        "expires_at": rfc3339(one.expires_at),
        "refresh_expires_at": rfc3339(one.refresh_expires_at),
        "config": None if one.config is None else dict(one.config),
    }


def connection_details(one: Connection, refreshes: states.Attempts) -> Mapping[str, object]:
    """A connection with everything that is known of it; never a token."""
    return {
        **connection_document(one),
        "remedy": None if one.cause is None else remedy_of(one.cause, one.service, one.name),
        "scheme": one.scheme,
        "metadata": dict(one.metadata),
        "registration": one.registration,
        "asked_scopes": list(one.asked_scopes),
        "missing_scopes": list(missing_scopes(one.asked_scopes, one.scopes)),
        "issued_at": rfc3339(one.issued_at),
        "generation": one.generation,
        "refreshed_at": rfc3339(refreshes.refreshed_at),
        "refresh_failures": refreshes.failures,
        "refresh_error": refreshes.last_error,
        "refresh_retry_at": rfc3339(refreshes.retry_at),
        "created_at": rfc3339(one.created_at),
        "updated_at": rfc3339(one.updated_at),
    }
