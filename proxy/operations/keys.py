"""Proxy keys: made, found, shown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxy import keys
from proxy.catalog.model import Catalog
from proxy.catalog.reader import nearest
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, ConflictError, Fault, ForbiddenError, MissingError
from proxy.forwarding.permits import parse_permit, with_words
from proxy.forwarding.permits.preset import why_no_preset
from proxy.keys import MOST_AT_ONCE, KeyRecord, Kind, Network, Rate, network_text, parse_network, parse_rate
from proxy.operations import fields, paging
from proxy.operations.moments import parse_moment, rfc3339
from proxy.operations.operation import Asked, Document, Ground, Operation
from proxy.secret import Secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A key as an operator asks for it, in texts. ``expires``: ``30d``, ``12h`` or an RFC 3339 time.

    ``read_only``, ``observe``: these words are added to every permit. ``rate``: such as ``10/s``.
    """

    name: str
    allow: Sequence[str]
    kind: Kind = "proxy"
    root: str | None = None
    networks: Sequence[str] = ()
    expires: str | None = None
    read_only: bool = False
    observe: bool = False
    rate: str | None = None
    concurrency: int | None = None


async def create_key(
    vault: Vault, catalog: Catalog, asked: KeyRequest, *, now: float, actor: str
) -> tuple[KeyRecord, Secret]:
    """Make a key and store its record; the key itself is given back once and kept nowhere.

    Raises:
        ConfigurationError: every value that makes no sense, or the name is taken.
    """
    key_id, key = keys.generate()
    record = _record(key_id, key, catalog, asked, round(now, 3))  # as it is stored, so that it reads the same
    await vault.add_key(record, actor=actor)
    return record, key


def _record(key_id: str, key: Secret, catalog: Catalog, asked: KeyRequest, now: float) -> KeyRecord:
    faults: list[Fault] = []
    check_key_name(asked.name, faults)
    if not asked.allow:
        faults.append(Fault("allow", "a key needs at least one permit, such as slack or github:GET"))
    permits = tuple(_permit(text, catalog, asked, faults) for text in asked.allow)
    if asked.root is not None and catalog.get(asked.root) is None:
        faults.append(Fault("root", f"there is no such service{nearest(asked.root, catalog.services)}"))
    networks = tuple(network for text in asked.networks if (network := _network(text, faults)) is not None)
    expires_at = None if asked.expires is None else expiry(asked.expires, now, faults)
    rate = None if asked.rate is None else _rate(asked.rate, faults)
    if asked.concurrency is not None and not 0 < asked.concurrency <= MOST_AT_ONCE:
        faults.append(Fault("concurrency", f"is a number from 1 to {MOST_AT_ONCE}"))
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
        rate=rate,
        concurrency=asked.concurrency,
    )


def _permit(text: str, catalog: Catalog, asked: KeyRequest, faults: list[Fault]) -> str:
    try:
        permit = with_words(parse_permit(text), read_only=asked.read_only, observe=asked.observe)
    except ValueError as error:
        faults.append(Fault("allow", str(error)))
        return text
    if permit.service != "*" and catalog.get(permit.service) is None:
        hint = nearest(permit.service, catalog.services)
        faults.append(Fault("allow", f"permit {text!r}: there is no such service{hint}"))
    if why_not := why_no_preset(permit, catalog.services):
        faults.append(Fault("read_only" if asked.read_only else "allow", f"permit {text!r}: {why_not}"))
    return str(permit)


def _rate(text: str, faults: list[Fault]) -> Rate | None:
    try:
        return parse_rate(text)
    except ValueError as error:
        faults.append(Fault("rate", str(error)))
        return None


def _network(text: str, faults: list[Fault]) -> Network | None:
    try:
        return parse_network(text)
    except ValueError as error:
        faults.append(Fault("networks", str(error)))
        return None


def check_key_name(name: str, faults: list[Fault]) -> None:
    """Add what is wrong with a key's or token's name."""
    if _NAME.fullmatch(name) is None:
        faults.append(Fault("name", "a key's name has 1 to 63 letters, digits, '_', '.' and '-'"))


def expiry(text: str, now: float, faults: list[Fault]) -> float | None:
    """When a text says that a key or token ends, in epoch seconds; adds what is wrong with it."""
    try:
        moment = parse_moment(text, now, 1)
    except ValueError as error:
        faults.append(Fault("expires", str(error)))
        return None
    if moment <= now:
        faults.append(Fault("expires", f"{text!r} is in the past"))
        return None
    return moment


def find_key(records: Iterable[KeyRecord], wanted: str, *, declared: bool = False) -> KeyRecord:
    """The key of that id, or the one in force (else the latest) of that name. ``declared``: also of settings.

    Raises:
        MissingError: there is none.
        ConflictError: it is declared in the settings.
    """
    known = list(records)
    found = [record for record in known if record.key_id == wanted]
    found = found or sorted(
        (record for record in known if record.name == wanted),
        key=lambda record: (record.revoked_at is None, record.created_at),
    )
    if not found:
        hint = nearest(wanted, [*(one.key_id for one in known), *(one.name for one in known)])
        raise MissingError(Fault(wanted[:60], f"there is no such key{hint}"))
    if found[-1].declared and not declared:
        raise ConflictError(
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
        "networks": [network_text(network) for network in record.networks],
        "rate": None if record.rate is None else str(record.rate),
        "concurrency": record.concurrency,
        "created_at": None if record.declared else rfc3339(record.created_at),
        "expires_at": rfc3339(record.expires_at),
        "revoked_at": rfc3339(record.revoked_at),
        "last_used_at": rfc3339(used),
    }


# --- operations ---------------------------------------------------------------------------------------


async def _create(ground: Ground, asked: Asked) -> Document:
    body = asked.body
    kind: Kind = "service" if body.get("kind") == "service" else "proxy"
    if kind == "service" and not asked.may("admin"):
        raise ForbiddenError(Fault("kind", "a service key reveals tokens: only admin may make one"))
    wish = KeyRequest(
        body["name"],
        body["allow"],
        kind,
        root=body.get("root"),
        networks=body.get("networks", ()),
        expires=body.get("expires"),
        read_only=body.get("read_only", False),
        observe=body.get("observe", False),
        rate=body.get("rate"),
        concurrency=body.get("concurrency"),
    )
    record, key = await create_key(ground.vault, ground.catalog, wish, now=ground.now, actor=asked.actor)
    return {**key_document(record, None, ground.now), "key": key.reveal()}


async def _list(ground: Ground, asked: Asked) -> Document:
    used = {} if ground.held is None else await ground.vault.key_usage()
    wanted = asked.query.get("state")
    found = [one for one in ground.keys().values() if wanted is None or key_state(one, ground.now) == wanted]
    return paging.page(
        asked,
        found,
        lambda one: (f"{round(one.created_at * 1000):015d}", one.key_id),
        lambda one: key_document(one, used.get(one.key_id), ground.now),
    )


async def _show(ground: Ground, asked: Asked) -> Document:
    record = find_key(ground.keys().values(), asked.path["key"], declared=True)
    used = {} if ground.held is None else await ground.vault.key_usage()
    return key_document(record, used.get(record.key_id), ground.now)


async def _revoke(ground: Ground, asked: Asked) -> Document:
    record = find_key(ground.keys().values(), asked.path["key"])
    revoked = await ground.vault.revoke_key(record.key_id, actor=asked.actor)
    return {"id": record.key_id, "name": record.name, "revoked": revoked}


async def _revoke_all(ground: Ground, asked: Asked) -> Document:
    revoked = await ground.vault.revoke_all(actor=asked.actor)
    return {"revoked": revoked, "declared": sorted(ground.settings.keys)}


_STATES = ("active", "declared", "expired", "revoked")
_KEY = {
    "id": fields.STRING,
    "name": fields.STRING,
    "state": fields.chosen("Whether it is in force", *_STATES),
    "kind": fields.chosen("proxy: for callers; service: may ask for tokens", "proxy", "service"),
    "permits": fields.STRINGS,
    "root": fields.MAYBE_STRING,
    "networks": fields.STRINGS,
    "rate": fields.MAYBE_STRING,
    "concurrency": fields.maybe(fields.NUMBER),
    "created_at": fields.MAYBE_TIME,
    "expires_at": fields.MAYBE_TIME,
    "revoked_at": fields.MAYBE_TIME,
    "last_used_at": fields.MAYBE_TIME,
}
_PERMIT = fields.text("A permit: SERVICE[@CONNECTION][:METHODS[:PATH]]", most=1000, least=1)
_NEW = fields.given(
    {
        "name": fields.KEY_NAME,
        "allow": fields.several(_PERMIT, "at least one permit, such as slack or github:GET", least=1),
        "kind": fields.chosen("proxy unless said; service takes the scope admin", "proxy", "service"),
        "root": fields.SERVICE,
        "networks": fields.several(
            fields.text("A network such as 10.1.0.0/16, or unix", most=50), "Only from there"
        ),
        "rate": fields.text("At most so many requests, such as 10/s or 100/m", most=20),
        "concurrency": fields.whole("At most so many requests at once", least=1, most=MOST_AT_ONCE),
        "expires": fields.MOMENT,
        "read_only": fields.flag("Only calls that are reviewed as reading, in all permits"),
        "observe": fields.flag("Let all calls pass, and note those that the permits would refuse"),
    },
    "name",
    "allow",
)
OPERATIONS = (
    Operation(
        "keys.list",
        "GET",
        "/keys",
        "Proxy keys, oldest first; revoked ones stay listed",
        ("read",),
        fields.page_of(fields.told(_KEY)),
        _list,
        query={**fields.ONE_BY_ONE, "state": fields.chosen("Only keys in this state", *_STATES)},
    ),
    Operation(
        "keys.create",
        "POST",
        "/keys",
        "Make a key; the answer is the only place where it is ever shown",
        ("keys:write",),
        fields.told({**_KEY, "key": fields.STRING}),
        _create,
        body=_NEW,
        creates=True,
        location="/keys/{id}",
    ),
    Operation("keys.show", "GET", "/keys/{key}", "One key", ("read",), fields.told(_KEY), _show),
    Operation(
        "keys.revoke",
        "POST",
        "/keys/{key}/revoke",
        "Put a key out of force for good, on every instance",
        ("keys:write",),
        fields.told({"id": fields.STRING, "name": fields.STRING, "revoked": fields.BOOLEAN}),
        _revoke,
    ),
    Operation(
        "keys.revoke_all",
        "POST",
        "/all-keys/revoke",
        "Put every key of the vault out of force; declared ones stay",
        ("keys:write",),
        fields.told({"revoked": fields.NUMBER, "declared": fields.STRINGS}),
        _revoke_all,
    ),
)
