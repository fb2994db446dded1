"""The services and declared keys in force, by the settings."""

import hashlib
from collections.abc import Iterator, Mapping

from proxy import keys
from proxy.catalog.loader import load_catalog
from proxy.catalog.model import Catalog
from proxy.errors import ConfigurationError, Fault
from proxy.forwarding.addresses import parse_address
from proxy.forwarding.permits import Permit, parse_permit, with_words
from proxy.forwarding.permits.preset import why_no_preset
from proxy.keys import KeyRecord
from proxy.settings import DeclaredKey, SecretSource, Settings, environment


def catalog_of(settings: Settings) -> Catalog:
    """The services in force.

    Raises:
        ConfigurationError: every fault of every file.
    """
    services, networks = settings.services, settings.egress.allow_addresses

    def allow_http(host: str, _port: int) -> bool:
        address = parse_address(host)
        return address is not None and any(
            address in network for network in networks if network.version == address.version
        )

    return load_catalog(
        user_directory=services.directory,
        enabled=services.enabled or None,
        extra_hosts=services.extra_hosts,
        allow_http=allow_http,
    )


def check_names(settings: Settings, catalog: Catalog) -> None:
    """Faults between settings and catalog.

    Raises:
        ConfigurationError: a source or listener for a service that is not there, or a read-only permit for
            one without a reviewed list.
    """
    wanted = {
        **{f"sources.{name}": name for name in settings.sources},
        **{f"listeners.{name}": name for name in settings.listeners},
        **{f"keys.{name}.root": key.root for name, key in settings.keys.items() if key.root},
    }
    faults = [
        Fault(place, f"there is no service {name!r} among those in force")
        for place, name in wanted.items()
        if catalog.get(name) is None
    ]
    faults += [
        Fault(f"keys.{name}.allow", f"permit {str(permit)!r}: {why_not}")
        for name, key in settings.keys.items()
        for permit in _permits(name, key, [])
        if (why_not := why_no_preset(permit, catalog.services))
    ]
    if faults:
        raise ConfigurationError(*faults)


def declared_keys(settings: Settings) -> Mapping[str, KeyRecord]:
    """The keys of ``[keys.NAME]``, by id.

    Raises:
        ConfigurationError: a hash or key that cannot be read, a permit that makes no sense.
    """
    faults: list[Fault] = []
    records: dict[str, KeyRecord] = {}
    for name, key in settings.keys.items():
        permits = tuple(str(permit) for permit in _permits(name, key, faults))
        try:
            digest = _digest_of(key.hash, f"keys.{name}.hash")
        except ConfigurationError as error:
            faults.extend(error.faults)
            continue
        key_id = f"declared:{name}"
        records[key_id] = KeyRecord(
            key_id,
            name,
            digest,
            permits,
            root=key.root,
            networks=key.networks,
            declared=True,
            rate=key.rate,
            concurrency=key.concurrency or None,
        )
    if faults:
        raise ConfigurationError(*faults)
    return records


def _permits(name: str, key: DeclaredKey, faults: list[Fault]) -> Iterator[Permit]:
    for text in key.allow:
        try:
            yield with_words(parse_permit(text), read_only=key.read_only, observe=key.observe)
        except ValueError as error:
            faults.append(Fault(f"keys.{name}.allow", str(error)))


def _digest_of(given: bytes | SecretSource | None, place: str) -> bytes:
    if isinstance(given, bytes):
        return given
    if given is None:
        raise ConfigurationError(Fault(place, "is missing"))
    presented = given.read(environment(), place=place).reveal().encode()
    if not keys.is_well_formed(presented):
        raise ConfigurationError(Fault(place, f"{given} holds no proxy key: make one with 'keys generate'"))
    return hashlib.sha256(presented).digest()
