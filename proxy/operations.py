"""What operators do: keys, connections, services of their own. Parsing and printing are the callers'."""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from proxy import keys
from proxy.catalog.loader import TYPE_ID, packaged_directory
from proxy.catalog.model import Catalog, Service
from proxy.catalog.reader import nearest
from proxy.catalog.template import new_service_text
from proxy.connectors.model import Tokens
from proxy.connectors.sources.answer import read_access_token, read_expires_at, read_object
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault
from proxy.forwarding.permits import parse_permit
from proxy.keys import KeyRecord, Kind, Network
from proxy.secret import Secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhdw])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def find_service(catalog: Catalog, type_id: str) -> Service:
    """The service of that id.

    Raises:
        ConfigurationError: there is none; the nearest one is named.
    """
    service = catalog.get(type_id)
    if service is None:
        raise ConfigurationError(
            Fault(type_id[:60], f"there is no such service{nearest(type_id, catalog.services)}")
        )
    return service


# --- keys ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A key as an operator asks for it, in texts. ``expires``: ``30d``, ``12h`` or an RFC 3339 time."""

    name: str
    allow: Sequence[str]
    kind: Kind = "proxy"
    root: str | None = None
    networks: Sequence[str] = ()
    expires: str | None = None


async def create_key(
    vault: Vault, catalog: Catalog, asked: KeyRequest, *, now: float, actor: str
) -> tuple[KeyRecord, Secret]:
    """Make a key and store its record; the key itself is given back once and kept nowhere.

    Raises:
        ConfigurationError: every value that makes no sense, or the name is taken.
    """
    key_id, key = keys.generate()
    record = _record(key_id, key, catalog, asked, now)
    await vault.add_key(record, actor=actor)
    return record, key


def _record(key_id: str, key: Secret, catalog: Catalog, asked: KeyRequest, now: float) -> KeyRecord:
    faults: list[Fault] = []
    if _NAME.fullmatch(asked.name) is None:
        faults.append(Fault("name", "a key's name has 1 to 63 letters, digits, '_', '.' and '-'"))
    if not asked.allow:
        faults.append(Fault("--allow", "a key needs at least one permit, such as slack or github:GET"))
    permits = tuple(_permit(text, catalog, faults) for text in asked.allow)
    if asked.root is not None and catalog.get(asked.root) is None:
        faults.append(Fault("--root", f"there is no such service{nearest(asked.root, catalog.services)}"))
    networks = tuple(network for text in asked.networks if (network := _network(text, faults)) is not None)
    expires_at = None if asked.expires is None else _expiry(asked.expires, now, faults)
    if faults:
        raise ConfigurationError(*faults)
    return KeyRecord(
        key_id,
        asked.name,
        keys.digest(key.reveal().encode()),
        permits,
        kind=asked.kind,
        root=asked.root,
        networks=networks,
        created_at=now,
        expires_at=expires_at,
    )


def _permit(text: str, catalog: Catalog, faults: list[Fault]) -> str:
    try:
        permit = parse_permit(text)
    except ValueError as error:
        faults.append(Fault("--allow", str(error)))
        return text
    if permit.service != "*" and catalog.get(permit.service) is None:
        hint = nearest(permit.service, catalog.services)
        faults.append(Fault("--allow", f"permit {text!r}: there is no such service{hint}"))
    return str(permit)


def _network(text: str, faults: list[Fault]) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        faults.append(Fault("--network", f"{text!r} is no address or network such as 10.1.0.0/16"))
        return None


def _expiry(text: str, now: float, faults: list[Fault]) -> float | None:
    try:
        moment = _moment(text, now, 1)
    except ValueError as error:
        faults.append(Fault("--expires", str(error)))
        return None
    if moment <= now:
        faults.append(Fault("--expires", f"{text!r} is in the past"))
        return None
    return moment


def parse_since(text: str, *, now: float) -> float:
    """``7d``, ``12h`` before ``now``, or an RFC 3339 time, as seconds since the epoch.

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        return _moment(text, now, -1)
    except ValueError as error:
        raise ConfigurationError(Fault("--since", str(error))) from None


def _moment(text: str, now: float, direction: int) -> float:
    found = _DURATION.fullmatch(text)
    if found is not None:
        return now + direction * int(found.group(1)) * _UNITS[found.group(2)]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{text!r} is neither 30d, 12h, 15m nor a time with offset (RFC 3339)")
    return moment.timestamp()


def find_key(records: Iterable[KeyRecord], wanted: str) -> KeyRecord:
    """The key of that id, or the one in force (else the latest) of that name.

    Raises:
        ConfigurationError: there is none, or it is declared in the settings.
    """
    known = list(records)
    found = [record for record in known if record.key_id == wanted]
    found = found or sorted(
        (record for record in known if record.name == wanted),
        key=lambda record: (record.revoked_at is None, record.created_at),
    )
    if not found:
        hint = nearest(wanted, [*(one.key_id for one in known), *(one.name for one in known)])
        raise ConfigurationError(Fault(wanted[:60], f"there is no such key{hint}"))
    if found[-1].declared:
        raise ConfigurationError(
            Fault(
                found[-1].name, "this key is declared in the settings: take it out there and reload (SIGHUP)"
            )
        )
    return found[-1]


# --- connections --------------------------------------------------------------------------------------


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
        ConfigurationError: there is none, or it is not clear which.
    """
    service, at, name = text.partition("@")
    if at:
        return service, name
    names = [one.name for one in vault.connections() if one.service == service]
    defaults = [one.name for one in vault.connections() if one.service == service and one.is_default]
    if not names:
        hint = nearest(service, {one.service for one in vault.connections()})
        raise ConfigurationError(Fault(service[:60], f"has no connection{hint}"))
    if len(names) > 1 and not defaults:
        raise ConfigurationError(
            Fault(service, f"has several connections: say {service}@ and one of {names}")
        )
    return service, (defaults or names)[0]


# --- services -----------------------------------------------------------------------------------------


def new_service(name: str, directory: Path) -> Path:
    """Write a commented service file.

    Raises:
        ConfigurationError: no id, one that is taken, or the file is there.
    """
    if TYPE_ID.fullmatch(name) is None:
        raise ConfigurationError(
            Fault("name", "a service's id has 1 to 40 lower-case letters, digits and '_'")
        )
    if (packaged_directory() / "services" / f"{name}.toml").is_file():
        raise ConfigurationError(
            Fault(name, "is a shipped service; copy its file and say override = true to replace it")
        )
    path = directory / f"{name}.toml"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(new_service_text(name))
    except FileExistsError:
        raise ConfigurationError(Fault(str(path), "is there already")) from None
    except OSError as error:
        raise ConfigurationError(Fault(str(path), f"cannot be written: {error.strerror}")) from error
    return path
