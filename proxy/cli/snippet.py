"""``snippet``: the lines that make a service's SDK work with this proxy."""

from typing import Annotated

import typer

from proxy.assembly.inforce import catalog_of
from proxy.catalog.recipes import load_recipes
from proxy.cli import output
from proxy.cli.session import ConfigOption, DataDirOption, JsonOption, settings_of
from proxy.operations import places
from proxy.operations.services import find_service
from proxy.snippets import KEY_VARIABLE, LANGUAGES, NO_PROXY, Language, Places, Snippet, snippets_of

_MARK = {"python": "#", "node": "//", "curl": "#"}


def _language(text: str) -> Language:
    for one in LANGUAGES:
        if one == text:
            return one
    raise typer.BadParameter(f"one of {', '.join(LANGUAGES)}")


def snippet(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="A service's id.")],
    *,
    lang: Annotated[
        str | None,
        typer.Option("--lang", metavar="|".join(LANGUAGES), help="Default: all of them."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the lines that make a service's SDK work with this proxy, and what cannot work."""
    language = None if lang is None else _language(lang)
    settings = settings_of(config, data_dir)
    catalog = catalog_of(settings)
    found = find_service(catalog, service)
    told = places.running(settings)
    where = places.places_of(settings, told)
    shown = snippets_of(found, load_recipes(), where, language)
    if as_json:
        output.document(_as_json(service, where, shown))
        return
    for one in shown:
        _print(one)
    output.note(f"{KEY_VARIABLE} is a key: connector-proxy keys create NAME --allow {service}")
    output.note(f"If HTTP_PROXY is set where the program runs: NO_PROXY={NO_PROXY}")
    if any(one.tls for one in shown):
        output.note(f"For https: SSL_CERT_FILE or NODE_EXTRA_CA_CERTS={where.ca_file} (connector-proxy ca)")
    if told is None:
        output.note("No server runs on this data folder: these are its configured addresses.")
    elif not told.get("tls") and any(one.tls for one in shown):
        output.note("The server has no TLS listener: start it with --tls-port.")


def _print(one: Snippet) -> None:
    mark = _MARK[one.language]
    output.line(f"{mark} {one.title}")
    for remark in one.remarks():
        output.line(f"{mark} {remark}")
    output.line(one.code)


def _as_json(service: str, where: Places, shown: tuple[Snippet, ...]) -> dict[str, object]:
    return {
        "service": service,
        "base_url": f"{where.data}/{service}",
        "tls_base_url": f"{where.tls}/{service}",
        "ca_file": where.ca_file,
        "key_variable": KEY_VARIABLE,
        "no_proxy": NO_PROXY,
        "snippets": [
            {
                "language": one.language,
                "package": one.package or None,
                "version": one.version or None,
                "evidence": one.evidence,
                "key_as": one.key_as or None,
                "tls": one.tls,
                "environment": dict(one.environment),
                "cannot": list(one.cannot),
                "code": one.code or None,
            }
            for one in shown
        ],
    }
