"""Reads the catalog: the shipped files, then a user's folder. All faults of all files, or a valid catalog."""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from proxy.catalog import decode
from proxy.catalog.addresses import AllowHttp
from proxy.catalog.checks import check
from proxy.catalog.model import Catalog, Service
from proxy.catalog.reader import Table, nearest
from proxy.errors import ConfigurationError, Fault

TYPE_ID = re.compile(r"[a-z0-9_]{1,40}", re.ASCII)
_Loaded: TypeAlias = tuple[Service, Mapping[str, object]]  # with its raw top table


def packaged_directory() -> Path:
    """The folder ``config`` of a checkout, else the copy that the wheel carries as ``proxy/_config``.

    A checkout wins: an editable install can leave a stale copy behind.
    """
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "config"
    is_checkout = (beside / "services").is_dir() and (package.parent / "pyproject.toml").is_file()
    return beside if is_checkout else package / "_config"


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes: what ``based_on`` names."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_file(path: Path, *, user: bool, allow_http: AllowHttp | None = None) -> Service:
    """One service from one file.

    Raises:
        ConfigurationError: every fault of the file.
    """
    faults: list[Fault] = []
    loaded = _read(path, faults, user=user, allow_http=allow_http)
    if faults or loaded is None:
        raise ConfigurationError(*faults)
    return loaded[0]


def load_catalog(
    *,
    user_directory: Path | None = None,
    enabled: Sequence[str] | None = None,
    extra_hosts: Sequence[str] = (),
    allow_http: AllowHttp | None = None,
) -> Catalog:
    """The services in force.

    Args:
        user_directory: a folder with further files, and with whole replacements of shipped ones.
        enabled: type ids to keep; None keeps all. The files of the others are checked all the same.
        extra_hosts: ``service.host`` names that their files leave switched off.
        allow_http: which host and port, besides loopback, ``http://`` may name in a user's file.

    Raises:
        ConfigurationError: every fault of every file; nothing is loaded then.
    """
    faults: list[Fault] = []
    shipped_directory = packaged_directory() / "services"
    shipped = _read_directory(shipped_directory, faults, user=False, allow_http=allow_http)
    services = {type_id: service for type_id, (service, _) in shipped.items()}
    warnings: list[Fault] = []
    if user_directory is not None:
        for type_id, (service, claim) in _read_directory(
            user_directory, faults, user=True, allow_http=allow_http
        ).items():
            _check_override(shipped_directory / f"{type_id}.toml", service, claim, faults, warnings)
            services[type_id] = service
    _check_ids(enabled or (), services, faults)
    services = _switch_on(services, extra_hosts, faults)
    if faults:
        raise ConfigurationError(*faults)
    kept = {
        type_id: services[type_id] for type_id in sorted(services) if enabled is None or type_id in enabled
    }
    return Catalog(MappingProxyType(kept), tuple(warnings))


def _read_directory(
    directory: Path, faults: list[Fault], *, user: bool, allow_http: AllowHttp | None
) -> dict[str, _Loaded]:
    if not directory.is_dir():
        faults.append(Fault(str(directory), "is not a folder"))
        return {}
    found: dict[str, _Loaded] = {}
    for path in sorted(directory.glob("*.toml")):
        loaded = _read(path, faults, user=user, allow_http=allow_http)
        if loaded is not None:
            found[loaded[0].type_id] = loaded
    return found


def _read(path: Path, faults: list[Fault], *, user: bool, allow_http: AllowHttp | None) -> _Loaded | None:
    """The service of one file with its raw top table, or None with faults."""
    type_id = path.name.removesuffix(".toml")
    before = len(faults)
    if TYPE_ID.fullmatch(type_id) is None or path.suffix != ".toml":
        faults.append(
            Fault(
                path.name, "the file's name is the service's id: lower-case letters, digits and _, then .toml"
            )
        )
    try:
        raw = path.read_bytes()
    except OSError as error:
        faults.append(Fault(path.name, f"cannot be read: {error.strerror}"))
        return None
    found, told = _decoded(raw, path, user=True, allow_http=allow_http) if user else _shipped(raw, path)
    faults.extend(told)
    return None if len(faults) > before else found


@lru_cache(maxsize=256)
def _shipped(raw: bytes, path: Path) -> tuple[_Loaded | None, tuple[Fault, ...]]:
    """The same bytes mean the same, so a reload does not decode them again; http:// they may not name."""
    return _decoded(raw, path, user=False, allow_http=None)


def _decoded(
    raw: bytes, path: Path, *, user: bool, allow_http: AllowHttp | None
) -> tuple[_Loaded | None, tuple[Fault, ...]]:
    """A file's content, and its faults; None where there is nothing but a fault."""
    try:
        values = tomllib.loads(raw.decode())
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        return None, (Fault(path.name, f"is not valid TOML: {error}"),)
    faults: list[Fault] = []
    top = Table(values, path.name, faults)
    digest = hashlib.sha256(raw).hexdigest()
    service = decode.service(top, path.name.removesuffix(".toml"), str(path), user=user, digest=digest)
    check(service, top.fault, allow_http=allow_http)
    if not user and ("override" in values or "based_on" in values):
        top.fault("override", "belongs into a user's file")
    return (service, MappingProxyType(values)), tuple(faults)


def _check_override(
    shipped: Path, service: Service, claim: Mapping[str, object], faults: list[Fault], warnings: list[Fault]
) -> None:
    """A user's file replaces a shipped one only on purpose, and knowing which version it replaces."""
    name = f"{service.type_id}.toml"
    if not shipped.is_file():
        if claim.get("override"):
            faults.append(Fault(f"{name}: override", f"there is no shipped service {service.type_id}"))
        return
    current = file_hash(shipped)
    if claim.get("override") is not True:
        faults.append(
            Fault(
                f"{name}: override",
                f"replaces the shipped service: say so with override = true and based_on = {current!r}",
            )
        )
    elif not claim.get("based_on"):
        faults.append(Fault(f"{name}: based_on", f"is missing: the shipped file is {current!r} now"))
    elif claim["based_on"] != current:
        warnings.append(
            Fault(
                f"{name}: based_on",
                f"the shipped file has changed since: compare, then say based_on = {current!r}",
            )
        )


def _check_ids(enabled: Iterable[str], services: Mapping[str, Service], faults: list[Fault]) -> None:
    faults.extend(
        Fault("[services] enabled", f'"{type_id}" is not a service{nearest(type_id, services)}')
        for type_id in enabled
        if type_id not in services
    )


def _switch_on(
    services: Mapping[str, Service], extra_hosts: Iterable[str], faults: list[Fault]
) -> dict[str, Service]:
    out = dict(services)
    for wanted in extra_hosts:
        type_id, _, name = wanted.partition(".")
        service = out.get(type_id)
        known = [f"{s.type_id}.{host.name}" for s in services.values() for host in s.hosts]
        if service is None or all(host.name != name for host in service.hosts):
            faults.append(
                Fault("[services] extra_hosts", f'"{wanted}" is not a declared host{nearest(wanted, known)}')
            )
            continue
        hosts = tuple(replace(host, enabled=host.enabled or host.name == name) for host in service.hosts)
        out[type_id] = replace(service, hosts=hosts)
    return out
