"""How a service's SDKs take a base URL: ``config/recipes/*.toml``, read as strictly as service files.

They are data apart from the service files: a changed example must not look like a changed service.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Literal

from proxy.catalog.loader import packaged_directory
from proxy.catalog.reader import Table, nearest
from proxy.errors import ConfigurationError, Fault

Language = Literal["python", "node"]
Evidence = Literal["tests", "tried", "documents"]
Spelling = Literal["origin", "api", "full"]

PLACES = frozenset({"BASE", "TLS", "TLS_AUTHORITY", "TLS_HOST", "CA", "SERVICE"})
"""What every recipe may name besides its own values; see ``snippets``. ``KEY``: only in its environment."""
_VARIABLE = r"[A-Z][A-Z0-9_]{1,59}"
_VALUE = r"[a-z][a-z0-9_]{0,39}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One SDK against the proxy. Texts hold ``$PLACE`` and ``$value`` (``string.Template``).

    ``evidence``: ``tests`` (this project's tests run these ways), ``tried`` (by hand, against a stand-in that
    recorded), ``documents``. ``spelling`` of the base URL: ``origin`` (the SDK adds the API's own path),
    ``api`` (it does not), ``full`` (the one address that it calls). ``tls``: it insists on https. ``key_as``:
    how it sends the key. Without ``code`` it takes no base URL, and ``cannot`` says so. ``environment``
    configures it without code; there ``$KEY`` is the key. ``values``: of each service.
    """

    package: str
    language: Language
    services: tuple[str, ...]
    evidence: Evidence
    version: str = ""
    spelling: Spelling = "origin"
    tls: bool = False
    key_as: str = ""
    imports: str = ""
    code: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    cannot: tuple[str, ...] = ()
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def texts(self) -> Iterator[tuple[str, str, frozenset[str]]]:
        """What may hold placeholders: the key in the file, the text, and the places that it may name."""
        yield "imports", self.imports, PLACES
        yield "code", self.code, PLACES
        for name, text in self.environment.items():
            yield f"environment.{name}", text, PLACES | {"KEY"}


def load_recipes(directory: Path | None = None) -> tuple[Recipe, ...]:
    """All recipes, by file and then in their order there.

    Args:
        directory: the shipped folder when None.

    Raises:
        ConfigurationError: every fault of every file.
    """
    folder = packaged_directory() / "recipes" if directory is None else directory
    known = frozenset(path.stem for path in (packaged_directory() / "services").glob("*.toml"))
    faults: list[Fault] = []
    recipes: list[Recipe] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            faults.append(Fault(path.name, f"cannot be read: {error.strerror}"))
            continue
        except ValueError as error:
            faults.append(Fault(path.name, f"is not valid TOML: {error}"))
            continue
        top = Table(values, path.name, faults)
        recipes.extend(_recipe(table, known) for table in top.tables("sdk"))
        top.done()
    if faults:
        raise ConfigurationError(*faults)
    return tuple(recipes)


def _recipe(table: Table, known: Collection[str]) -> Recipe:
    services = table.texts("services")
    below = table.table("values")
    recipe = Recipe(
        package=table.text("package", required=True),
        language=table.choice("language", ("python", "node"), "python"),
        services=services,
        evidence=table.choice("evidence", ("tests", "tried", "documents"), "documents"),
        version=table.text("version"),
        spelling=table.choice("spelling", ("origin", "api", "full"), "origin"),
        tls=table.flag("tls"),
        key_as=table.text("key_as"),
        imports=table.text("imports").strip(),
        code=table.text("code").rstrip(),
        environment=table.pairs("environment", form=_VARIABLE, what="an environment variable"),
        cannot=table.texts("cannot"),
        values={}
        if below is None
        else {one: below.pairs(one, form=_VALUE, what="a word") for one in services},
    )
    if below is not None:
        below.done()
    table.done()
    _check(recipe, table, known)
    return recipe


def _check(recipe: Recipe, table: Table, known: Collection[str]) -> None:
    if not recipe.services:
        table.fault("services", "is missing")
    for one in recipe.services:
        if one not in known:
            table.fault("services", f'"{one}" is not a service{nearest(one, known)}')
    if not recipe.code and not recipe.cannot:
        table.fault("code", "is missing: without code, cannot says why")
    if recipe.code and not recipe.key_as:
        table.fault("key_as", "is missing")
    for key, text, places in recipe.texts():
        template = Template(text)
        if not template.is_valid():
            table.fault(key, "has a $ that is no placeholder; a dollar is $$")
            continue
        named = set(template.get_identifiers()) - places
        for one in recipe.services:
            for name in sorted(named - recipe.values.get(one, {}).keys()):
                table.fault(key, f"names ${name}, which is no place and no value of {one}")
