"""The parts of README.md that are made from the program, and readers for the rest of it.

``PYTHONPATH=tests python -m support.documents`` writes the made parts anew, and ``docs/sdks.md`` whole.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from proxy.catalog import decode
from proxy.catalog.loader import load_catalog
from proxy.catalog.reader import Table
from proxy.catalog.recipes import load_recipes
from proxy.problems import INTERNAL, PROBLEMS, Problem
from proxy.settings.document import settings_table
from proxy.snippets import NO_PROXY, Places, Snippet, snippets_of

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
SDK_PAGE = ROOT / "docs" / "sdks.md"
SDK_TESTS = ROOT / "docs" / "sdk-tests.md"
PAGES = (
    README,
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / ".github").glob("*.md")),
)


# --- made parts -----------------------------------------------------------------------------------------


def services_table() -> str:
    """Every shipped service: id, title, hosts that are on (default first), what it needs, how it is known."""
    lines = [
        "| id | title | hosts | `connection_config` | facts from |",
        "| --- | --- | --- | --- | --- |",
    ]
    for service in load_catalog().services.values():
        hosts = dict.fromkeys(
            host.origin.text.removeprefix("https://") for host in service.hosts if host.enabled
        )
        params = [param for param in service.params.values() if not param.informational]
        needs = ", ".join(f"`{one.name}`" + ("" if one.required else " (may)") for one in params)
        shown = ", ".join(f"`{host}`" for host in hosts)
        lines.append(
            f"| `{service.type_id}` | {service.title} | {shown} | {needs} | {service.verified} |".replace(
                "|  |", "| |"
            )
        )
    return "\n".join(lines) + "\n"


_SDK_INTRO = f"""# SDKs, service by service

What `connector-proxy snippet SERVICE` prints for a proxy on its default addresses; the command prints the running server's. This page is
made from [`config/recipes`](../config/recipes) and the service files.

- `PROXY_KEY` is a proxy key: `connector-proxy keys create NAME --allow SERVICE`.
- If `HTTP_PROXY` is set where the program runs, set `NO_PROXY={NO_PROXY}` too.
- Some SDKs insist on https: `connector-proxy serve --tls-port 8443`. Without `data.tls.cert_file` its certificate comes from a local
  authority, which can vouch for localhost and loopback addresses only; `connector-proxy ca` prints where its certificate is
  (`connector-proxy-ca.pem` below). Node takes it from `NODE_EXTRA_CA_CERTS`; most of Python's clients from `SSL_CERT_FILE` or
  `REQUESTS_CA_BUNDLE`, which *replace* the system's roots, and httplib2 from `HTTPLIB2_CA_CERTS`.
- Other clients that speak HTTP need the same two things: the address in front, and the key in place of a token.
- What answers lead to (links, uploads) and what batches may hold: [links.md](links.md), [Limits](../README.md#limits).
"""
_FENCES = {"python": "python", "node": "js", "curl": "sh"}


def sdk_page() -> str:
    """``docs/sdks.md``: of each service the lines for its SDKs, and the one for curl."""
    recipes = load_recipes()
    parts = [_SDK_INTRO]
    for service in load_catalog().services.values():
        parts.append(f"## {service.title} (`{service.type_id}`)")
        shown = snippets_of(service, recipes, Places())
        parts.extend(_sdk_part(one) for one in shown if one.package or one.language == "curl")
    return "\n".join(parts)


def _sdk_part(one: Snippet) -> str:
    lines = [f"### {one.title}"]
    if one.code:
        lines.append(f"```{_FENCES[one.language]}\n{one.code}```")
    lines.extend(f"- {remark}" for remark in one.remarks())
    return "\n".join(lines) + "\n"


def errors_table() -> str:
    """Every code that an answer of the data plane can have, by status."""
    lines = ["| status | code | what is wrong |", "| --- | --- | --- |"]
    rows: list[tuple[Problem, str]] = [(row, _sentence(kind)) for kind, row in PROBLEMS.items()]
    rows.append((INTERNAL, "A fault of the proxy, not of the request; the log has the place."))
    rows.sort(key=lambda pair: pair[0].status)
    lines.extend(f"| {row.status} | `{row.code}` | {about} |" for row, about in rows)
    return "\n".join(lines) + "\n"


def _sentence(kind: type[Exception]) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


class SdkRun(NamedTuple):
    """A row of ``docs/sdk-tests.md``: what one SDK did in the last ``make sdk``."""

    package: str
    language: str
    version: str
    service: str
    bases: str
    passed: str
    steps: str
    calls: str
    without: str
    told: str


_SDK_ROW = re.compile(
    r"\| (\S+) \((python|node)\) \| (\S+) \| (\w+) \| (.+) \| (\d+) of (\d+) \| (\d+) \| (.*?) ?\| (.+) \|"
)


def sdk_runs() -> list[SdkRun]:
    """All rows, in their order."""
    lines = SDK_TESTS.read_text(encoding="utf-8").splitlines()
    return [SdkRun(*found.groups()) for found in map(_SDK_ROW.fullmatch, lines) if found]


def sdk_table() -> str:
    """The same in short: one row an SDK and service."""
    lines = ["| SDK | version | service | calls | steps passed |", "| --- | --- | --- | --- | --- |"]
    titles = {"python": "Python", "node": "Node"}
    lines.extend(
        f"| {one.package} ({titles[one.language]}) | {one.version} | `{one.service}` | {one.calls} | {one.passed} of {one.steps} |"
        for one in sdk_runs()
    )
    return "\n".join(lines) + "\n"


MADE = {"settings": settings_table, "errors": errors_table, "services": services_table, "sdks": sdk_table}


def _part(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=^<!-- {name} -->\n)(.*?)(?=^<!-- /{name} -->$)", re.MULTILINE | re.DOTALL)


def part(text: str, name: str) -> str:
    """What stands between ``<!-- name -->`` and ``<!-- /name -->``, each on a line of its own."""
    (found,) = _part(name).findall(text)
    return str(found)


def with_made_parts(text: str) -> str:
    """The text with every made part as it should be."""
    for name, make in MADE.items():
        made = make()
        text = _part(name).sub(lambda _, made=made: made, text)
    return text


# --- reading --------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """A fenced block of a page; ``line`` is that of its first line of text."""

    page: str
    line: int
    language: str
    text: str


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """The fenced blocks of a page in those languages."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if found.group(1) in languages:
            line = text.count("\n", 0, found.start(2)) + 1
            yield Block(page.relative_to(ROOT).as_posix(), line, found.group(1), found.group(2))


# --- the schema of service files ------------------------------------------------------------------------


class _Curious(Table):
    """A table that seems to hold every table that is asked for, and notes by its path what is asked."""

    known: Mapping[str, set[str]]

    def _child(self, key: str) -> "_Curious":
        child = _Curious({}, "", [], self._below(key))
        child.known = self.known
        return child

    def has(self, key: str) -> bool:
        self._asked.add(key)
        return True

    def table(self, key: str) -> Table | None:
        self._asked.add(key)
        return self._child(key)

    def tables(self, key: str) -> list[Table]:
        self._asked.add(key)
        return [self._child(key)]

    def named_tables(self, key: str, **_: object) -> dict[str, Table]:
        self._asked.add(key)
        return {"name": self._child(f"{key}.NAME")}

    def done(self) -> None:
        self.known.setdefault(self._path, set()).update(self._asked)  # type: ignore[attr-defined]  # a dict


def accepted_keys() -> Mapping[str, set[str]]:
    """The loader's own list: dotted table -> keys it knows there; the top of the file is the empty table."""
    known: dict[str, Any] = {}
    top = _Curious({}, "", [])
    top.known = known
    decode.service(top, "acme", "acme.toml", user=True, digest="")
    return known


def write_readme() -> None:
    """README.md with its made parts anew."""
    README.write_text(with_made_parts(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write_readme()
    SDK_PAGE.write_text(sdk_page(), encoding="utf-8")
