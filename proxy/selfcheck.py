"""``check``: everything that a start would refuse, told at once, changing nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from proxy import certificates, lifecycle, listeners, tracing
from proxy.assembly.credentials import sources_of
from proxy.assembly.inforce import catalog_of, check_names, declared_keys
from proxy.assembly.providers import declared_registrations, oidc_secret, webhook_key
from proxy.assembly.vaults import master_key_of, needs_vault, open_vault, vault_exists, vault_place
from proxy.catalog.model import Catalog
from proxy.connectors.audit_log import ChainReport
from proxy.connectors.oauth.registration import Registration
from proxy.errors import ConfigurationError, Fault, SetupError
from proxy.forwarding.egress import Dialer
from proxy.settings import Settings
from proxy.settings.accounts import OIDC_CALLBACK

T = TypeVar("T")


@dataclass(slots=True)
class Report:
    """What was found; ``facts`` are for a person to read."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def attempt(self, place: str, work: Callable[[], T]) -> T | None:
        """The result of ``work``, or None with its faults noted."""
        try:
            return work()
        except ConfigurationError as error:
            self.faults.extend(error.faults)
        except SetupError as error:
            self.faults.append(Fault(place, str(error)))
        return None


def check_all(load: Callable[[], Settings]) -> Report:
    """Environment, settings, services, keys, registrations, sources, certificates and the vault's key."""
    report = Report()
    report.attempt("Python", lifecycle.require_environment)
    settings = report.attempt("settings", load)
    if settings is None:
        return report
    catalog = report.attempt("services", lambda: catalog_of(settings))
    report.attempt("keys", lambda: declared_keys(settings))
    report.attempt("webhook", lambda: webhook_key(settings))
    report.attempt("tracing", lambda: tracing.check(settings))
    report.attempt("control.oidc", lambda: oidc_secret(settings))
    if settings.control.oidc.issuer is not None:
        report.facts["redirect address of sign-in"] = f"{settings.control.origin()}{OIDC_CALLBACK}"
    report.attempt("data.tls", lambda: listeners.check_certificate(settings))
    report.attempt("control.tls", lambda: certificates.control_context(settings))
    if catalog is None:
        return report
    report.warnings.extend(catalog.warnings)
    report.facts["services"] = str(len(catalog.services))
    report.attempt("settings", lambda: check_names(settings, catalog))
    report.attempt("registrations", lambda: declared_registrations(settings, catalog))
    _check_sources(report, settings, catalog)
    _check_vault(report, settings, catalog)
    return report


def _check_sources(report: Report, settings: Settings, catalog: Catalog) -> None:
    try:
        dialer = Dialer(settings.egress.policy(()), lambda: 0.0)
    except OSError as error:
        report.faults.append(
            Fault("egress.ca_file", f"cannot be used: {error.strerror or type(error).__name__}")
        )
        return
    report.attempt("sources", lambda: sources_of(settings, catalog, dialer))


def _check_vault(report: Report, settings: Settings, catalog: Catalog) -> None:
    if not needs_vault(settings, catalog):
        report.facts["vault"] = "not needed: keys are declared and every service has a source"
        return
    place = report.attempt("vault", lambda: vault_place(settings))
    if place is None or report.attempt("vault", lambda: master_key_of(settings)) is None:
        return
    exists = report.attempt("vault", lambda: asyncio.run(vault_exists(settings)))
    if not exists:
        if exists is False:
            report.facts["vault"] = f"will be made in {place}"
        return

    async def look() -> tuple[int, int, tuple[str, ...], ChainReport, tuple[Registration, ...]]:
        vault = await open_vault(settings, catalog)
        try:
            chain = await vault.verify_audit()
            refused = tuple(str(one) for one in await vault.refused_rows())
            notices = (*vault.notices, *refused)
            return len(vault.connections()), len(vault.keys()), notices, chain, await vault.registrations()
        finally:
            await vault.close()

    found = report.attempt("vault", lambda: asyncio.run(look()))
    if found is not None:
        report.facts["vault"] = f"{place}: opens, {found[0]} connections, {found[1]} keys"
        report.warnings.extend(Fault("vault", notice) for notice in found[2])
        _tell_chain(report, found[3])
        report.faults.extend(Fault("vault", one.mending) for one in found[4] if one.damaged)


def _tell_chain(report: Report, chain: ChainReport) -> None:
    """What the audit's chain came to: what is not as it was written is a fault."""
    report.facts["audit"] = (
        f"{chain.rows} rows in the chain, {chain.pruned} before them dropped by age; "
        f"head {chain.number}:{chain.hash}"
    )
    report.faults.extend(Fault("audit", str(fault)) for fault in chain.faults)
    if chain.fault_count > len(chain.faults):
        report.faults.append(Fault("audit", f"{chain.fault_count - len(chain.faults)} more such faults"))
    if chain.loose:
        told = f"{chain.loose} rows are not in the chain (yet): an older release wrote them, or somebody else"
        report.warnings.append(Fault("audit", told))
    if chain.late:
        told = f"{chain.late} rows came into the chain after they were written, by an older release"
        report.facts["audit, taken in late"] = told
