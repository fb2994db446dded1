"""The lines that make a service's SDK, or any HTTP client, work with this proxy."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Literal
from urllib.parse import urlsplit

from proxy.catalog.grants import Verify
from proxy.catalog.model import Service
from proxy.catalog.recipes import Recipe

Language = Literal["python", "node", "curl"]
LANGUAGES: tuple[Language, ...] = ("python", "node", "curl")
KEY_VARIABLE = "PROXY_KEY"
"""The environment variable that snippets take the key from, so that none stands in a program."""
NO_PROXY = "localhost,127.0.0.1,::1"
DEFAULT_DATA, DEFAULT_TLS = "http://localhost:8080", "https://localhost:8443"
EVIDENCE: Mapping[str, str] = {
    "tests": "run in this project's tests",
    "tried": "run once by hand against a recording stand-in",
    "documents": "from its source or documentation, not run",
}
_SPELLINGS: Mapping[str, str] = {
    "origin": "without the API's own path, which the SDK adds",
    "api": "with the API's own path",
    "full": "the one address that it calls",
}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the proxy is: origins without a path; ``ca_file``: what signs the TLS listener, if we do."""

    data: str = DEFAULT_DATA
    tls: str = DEFAULT_TLS
    ca_file: str = "connector-proxy-ca.pem"

    def of(self, service: str) -> dict[str, str]:
        """The values of a recipe's placeholders; ``service`` may name a connection (``slack@sales``)."""
        tls = urlsplit(self.tls)
        return {
            "BASE": f"{self.data}/{service}",
            "TLS": f"{self.tls}/{service}",
            "TLS_AUTHORITY": tls.netloc,
            "TLS_HOST": tls.hostname or "",
            "CA": self.ca_file,
            "SERVICE": service,
        }


@dataclass(frozen=True, slots=True)
class Snippet:
    """Lines for one SDK; none where it takes no base URL. ``cannot``: what does not work, and why.

    ``package`` is empty for plain HTTP. ``environment`` configures it without code; ``$KEY`` is the key.
    """

    language: Language
    code: str
    package: str = ""
    version: str = ""
    evidence: str = "tests"
    spelling: str = ""
    key_as: str = ""
    tls: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    cannot: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Which SDK, in which language."""
        if self.language == "curl":
            return "curl"
        if not self.package:
            return {"python": "Python: any HTTP client, here httpx", "node": "Node: fetch"}[self.language]
        name = {"python": "Python", "node": "Node"}[self.language]
        return f"{name}: {self.package}{f' {self.version}' if self.version else ''}"

    def remarks(self) -> Iterator[str]:
        """What to know of it, one sentence each."""
        if self.package and self.code:
            yield f"Base URL {_SPELLINGS[self.spelling]}; the key goes as {self.key_as}."
            yield f"Its ways were {EVIDENCE[self.evidence]}."
        elif self.package:
            yield f"It cannot be used with a base URL ({EVIDENCE[self.evidence]})."
        if self.tls and self.code:
            yield "It insists on https: serve --tls-port, and trust in what connector-proxy ca prints."
        if self.environment:
            pairs = " ".join(f"{name}={value}" for name, value in self.environment.items())
            yield f"From the environment: {pairs}"
        yield from self.cannot


def snippets_of(
    service: Service,
    recipes: Iterable[Recipe],
    places: Places,
    language: Language | None = None,
    *,
    connection: str | None = None,
) -> tuple[Snippet, ...]:
    """SDKs first, then plain HTTP; of one language, or of all; for the default connection, or a named one."""
    wanted = LANGUAGES if language is None else (language,)
    name = service.type_id if connection is None else f"{service.type_id}@{connection}"
    made = [
        _of_recipe(recipe, name, places)
        for recipe in recipes
        if service.type_id in recipe.services and recipe.language in wanted
    ]
    verify = service.verify or Verify("GET", "/")
    address = address_of(name, verify, places)
    plain = {"python": _python, "node": _node, "curl": _curl}
    made.extend(Snippet(one, plain[one](verify, address), key_as="Authorization: Bearer") for one in wanted)
    return tuple(made)


def address_of(service: str, verify: Verify, places: Places) -> str:
    """The proxy's address of a call on the service's host; ``service`` as in :meth:`Places.of`."""
    host = f"/~{verify.host}" if verify.host else ""
    return f"{places.data}/{service}{host}{verify.path}"


def _of_recipe(recipe: Recipe, service: str, places: Places) -> Snippet:
    values = {**places.of(service), **recipe.values.get(service.partition("@")[0], {})}
    code = ""
    if recipe.code:
        frame = _PYTHON_FRAME if recipe.language == "python" else _NODE_FRAME
        imports = Template(recipe.imports).substitute(values)
        code = frame.format(imports=imports, code=Template(recipe.code).substitute(values))
    return Snippet(
        recipe.language,
        code,
        package=recipe.package,
        version=recipe.version,
        evidence=recipe.evidence,
        spelling=recipe.spelling,
        key_as=recipe.key_as,
        tls=recipe.tls,
        environment=environment_of(recipe, service, places, "$KEY"),
        cannot=recipe.cannot,
    )


def environment_of(recipe: Recipe, service: str, places: Places, key: str) -> dict[str, str]:
    """The variables that configure an SDK without code; ``service`` as in :meth:`Places.of`."""
    values = {**places.of(service), **recipe.values.get(service.partition("@")[0], {})}
    return {name: Template(text).substitute(values, KEY=key) for name, text in recipe.environment.items()}


_PYTHON_FRAME = f'import os\n\n{{imports}}\n\nKEY = os.environ["{KEY_VARIABLE}"]\n{{code}}\n'
_NODE_FRAME = f"{{imports}}\n\nconst KEY = process.env.{KEY_VARIABLE};\n{{code}}\n"


def _python(verify: Verify, address: str) -> str:
    typed = f', "Content-Type": {_quoted(verify.content_type)}' if verify.content_type else ""
    lines = [
        "answer = httpx.request(",
        f"    {_quoted(verify.method)},",
        f"    {_quoted(address)},",
        f'    headers={{"Authorization": f"Bearer {{KEY}}"{typed}}},',
        *([f"    content={_quoted(verify.body)},"] if verify.body else []),
        ")",
        "print(answer.status_code, answer.text)",
    ]
    return _PYTHON_FRAME.format(imports="import httpx", code="\n".join(lines))


def _quoted(text: str) -> str:
    """A Python string, double-quoted unless that takes escapes."""
    return repr(text) if '"' in text else json.dumps(text)


def _node(verify: Verify, address: str) -> str:
    typed = f', "Content-Type": {json.dumps(verify.content_type)}' if verify.content_type else ""
    body = f"  body: {json.dumps(verify.body)},\n" if verify.body else ""
    return (
        f"const KEY = process.env.{KEY_VARIABLE};\n"
        f"const answer = await fetch({json.dumps(address)}, {{\n"
        f"  method: {json.dumps(verify.method)},\n"
        f"  headers: {{ Authorization: `Bearer ${{KEY}}`{typed} }},\n"
        f"{body}}});\n"
        "console.log(answer.status, await answer.text());\n"
    )


def _curl(verify: Verify, address: str) -> str:
    parts = ["curl"]
    if verify.method != "GET":
        parts.append(f"-X {verify.method}")
    parts.append(f'-H "Authorization: Bearer ${KEY_VARIABLE}"')
    if verify.content_type:
        parts.append(f"-H {shlex.quote(f'Content-Type: {verify.content_type}')}")
    if verify.body:
        parts.append(f"--data-raw {shlex.quote(verify.body)}")
    elif verify.method == "POST":
        parts.append("-d ''")
    parts.append(shlex.quote(address))
    return " ".join(parts) + "\n"
