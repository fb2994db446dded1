"""Proxy keys: made, found, shown."""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxy import keys
from proxy.catalog.model import Catalog
from proxy.catalog.reader import nearest
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault
from proxy.forwarding.permits import parse_permit, with_words
from proxy.forwarding.permits.preset import why_no_preset
from proxy.keys import KeyRecord, Kind, Network
from proxy.operations.moments import parse_moment, rfc3339
from proxy.secret import Secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A key as an operator asks for it, in texts. ``expires``: ``30d``, ``12h`` or an RFC 3339 time.

    ``read_only``, ``observe``: these words are added to every permit.
    """

    name: str
    allow: Sequence[str]
    kind: Kind = "proxy"
    root: str | None = None
    networks: Sequence[str] = ()
    expires: str | None = None
    read_only: bool = False
    observe: bool = False


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
    permits = tuple(_permit(text, catalog, asked, faults) for text in asked.allow)
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


def _permit(text: str, catalog: Catalog, asked: KeyRequest, faults: list[Fault]) -> str:
    try:
        permit = with_words(parse_permit(text), read_only=asked.read_only, observe=asked.observe)
    except ValueError as error:
        faults.append(Fault("--allow", str(error)))
        return text
    if permit.service != "*" and catalog.get(permit.service) is None:
        hint = nearest(permit.service, catalog.services)
        faults.append(Fault("--allow", f"permit {text!r}: there is no such service{hint}"))
    if why_not := why_no_preset(permit, catalog.services):
        faults.append(Fault("--read-only" if asked.read_only else "--allow", f"permit {text!r}: {why_not}"))
    return str(permit)


def _network(text: str, faults: list[Fault]) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        faults.append(Fault("--network", f"{text!r} is no address or network such as 10.1.0.0/16"))
        return None


def _expiry(text: str, now: float, faults: list[Fault]) -> float | None:
    try:
        moment = parse_moment(text, now, 1)
    except ValueError as error:
        faults.append(Fault("--expires", str(error)))
        return None
    if moment <= now:
        faults.append(Fault("--expires", f"{text!r} is in the past"))
        return None
    return moment


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


def key_state(record: KeyRecord, now: float) -> str:
    """``active``, ``declared``, ``expired`` or ``revoked`` at ``now`` (epoch seconds)."""
    if record.revoked_at is not None:
        return "revoked"
    if not record.is_live(now):
        return "expired"
    return "declared" if record.declared else "active"


def key_document(record: KeyRecord, used: float | None, now: float) -> Mapping[str, object]:
    """A key as it is listed. ``used``: when it last was (epoch seconds)."""
    return {
        "id": record.key_id,
        "name": record.name,
        "state": key_state(record, now),
        "kind": record.kind,
        "permits": list(record.permits),
        "root": record.root,
        "networks": [str(network) for network in record.networks],
        "created_at": None if record.declared else rfc3339(record.created_at),
        "expires_at": rfc3339(record.expires_at),
        "revoked_at": rfc3339(record.revoked_at),
        "last_used_at": rfc3339(used),
    }
