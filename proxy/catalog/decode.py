"""From the tables of a file to the types of ``model``, one function a table: addresses, requests, answers.

Form is checked here, value by value; what concerns several values at once is in ``checks``.
"""

from typing import Literal, get_args

from proxy.catalog import dialects
from proxy.catalog.grants import Verified
from proxy.catalog.model import (
    Auth,
    Batch,
    Host,
    KeyPlace,
    Link,
    Param,
    Presigned,
    ReadOnlyEntry,
    Rule,
    Scheme,
    Service,
)
from proxy.catalog.origin import OriginTemplate
from proxy.catalog.patterns import PathPattern, SpellingSet
from proxy.catalog.reader import Table

NAME = r"[a-z][a-z0-9_]{0,39}"
NAME_WORDS = "lower-case letters, digits and underscores, beginning with a letter"
PATH = r"/[!-~]*"
PATH_WORDS = "a path that begins with '/'"
FIELD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 §5.6.2 token
FIELD_WORDS = "a header field name"
FIELD_OF_TYPE = r"[_A-Za-z][_0-9A-Za-z]*"  # a name of GraphQL, specification 2.1.9
URL = r"https?://[!-~]+"
URL_WORDS = "an address that begins with https://"
METHOD = r"[A-Z]+"
SUFFIX = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}"
_MOST_PARTS = 1000  # what Google's client puts into a batch, and no service takes more
PRESIGNED = rf"(?:\*\.)?{SUFFIX}"

_SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
_VERIFIED: tuple[Verified, ...] = get_args(Verified)
_TOKEN: tuple[Literal["add", "none"], ...] = ("add", "none")
_PLACES: tuple[Literal["header", "query", "form", "soap", "part"], ...] = (
    "header",
    "query",
    "form",
    "soap",
    "part",
)
_BATCHES: tuple[Literal["multipart", "json"], ...] = ("multipart", "json")
_WHERE: tuple[Literal["header", "json", "websocket", "request"], ...] = (
    "header",
    "json",
    "websocket",
    "request",
)


def service(top: Table, type_id: str, source_file: str, *, user: bool, digest: str) -> Service:
    """The whole file. Faults go where ``top`` sends them; the result counts only if there were none."""
    top.flag("override")
    top.text("based_on")
    params = {
        name: _param(name, table)
        for name, table in top.named_tables(
            "params", form=r"[A-Za-z][A-Za-z0-9_]{0,39}", what="a word"
        ).items()
    }
    links = tuple(_link(table) for table in top.tables("links"))
    decoded = Service(
        type_id=type_id,
        source_file=source_file,
        user=user,
        digest=digest,
        title=top.text("title", required=True),
        docs=top.text("docs", required=not user, form=URL, what=URL_WORDS),
        console=top.text("console", form=URL, what=URL_WORDS),
        verified=top.choice("verified", _VERIFIED, "memory"),
        base_path=top.text("base_path", form=PATH, what=PATH_WORDS),
        roots=top.texts("roots", form=PATH, what=PATH_WORDS),
        hosts=_hosts(top, params),
        rules=tuple(_rule(table) for table in top.tables("rules")),
        credential_paths=_spellings(top, "credential_paths", "credential_exempt"),
        batch_paths=_spellings(top, "batch_paths"),
        batch=_batch(top.table("batch")),
        method_override=top.texts("method_override", form=FIELD, what="a header field or parameter name"),
        header_underscores=top.flag("header_underscores"),
        auth=_auth(top.table("auth")) or Auth(),
        headers=tuple(top.pairs("headers", form=FIELD, what=FIELD_WORDS).items()),
        params=params,
        key_places=tuple(_key_place(table) for table in top.tables("key_places")),
        oauth=dialects.oauth(top.table("oauth")),
        verify=dialects.verify(top.table("verify")),
        rate_limit=dialects.rate_limit(top.table("rate_limit")),
        failure=dialects.failure(top.table("failure")),
        errors=dialects.errors(top.table("errors")),
        links=tuple(link for link in links if link.where != "request"),
        links_back=tuple(link for link in links if link.where == "request"),
        presigned=tuple(_presigned(table) for table in top.tables("presigned")),
        read_only=tuple(_read_only(table) for table in top.tables("read_only")),
        public=tuple(_public(table) for table in top.tables("public")),
        notes=top.texts("notes"),
    )
    top.done()
    return decoded


def _spellings(top: Table, key: str, exempt: str = "") -> SpellingSet:
    patterns = tuple(pattern.text for pattern in top.patterns(key))
    return SpellingSet(patterns, _whole_paths(top, exempt) if exempt else frozenset())


def _whole_paths(table: Table, key: str) -> frozenset[bytes]:
    literal = table.texts(key, form=r"/[!-)+-~]*", what="a whole path without '*'")
    return frozenset(path.encode() for path in literal)


def _batch(table: Table | None) -> Batch | None:
    if table is None:
        return None
    batch = Batch(
        form=table.choice("form", _BATCHES, "multipart"),
        paths=_whole_paths(table, "paths"),
        most=table.number("most", lowest=1, highest=_MOST_PARTS) or 1,
    )
    for key in ("form", "paths", "most"):
        if not table.has(key):
            table.fault(key, "is missing")
    table.done()
    return batch


def _hosts(top: Table, params: dict[str, Param]) -> tuple[Host, ...]:
    defaults = tuple((name, param.default) for name, param in params.items() if param.default is not None)
    hosts = tuple(_host(table, defaults) for table in top.tables("hosts"))
    if not hosts:
        top.fault("hosts", "is missing: a service needs at least one [[hosts]]")
    return hosts


def _host(table: Table, defaults: tuple[tuple[str, str], ...]) -> Host:
    text = table.text("origin", required=True).rstrip("/")
    suffixes = table.texts("suffixes", form=SUFFIX, what="a domain such as 'example.com'")
    used = tuple(pair for pair in defaults if f"{{{pair[0]}}}" in text)
    host = Host(
        name=table.text("name", required=True, form=NAME, what=NAME_WORDS),
        origin=OriginTemplate(text, suffixes, used),
        prefixes=table.texts("prefixes", form=PATH, what=PATH_WORDS),
        base_path=table.text("base_path", form=PATH, what=PATH_WORDS),
        token=table.choice("token", _TOKEN, "add"),
        none_when=table.patterns("none_when"),
        none_when_query=table.texts("none_when_query"),
        enabled=table.flag("enabled", default=True),
        when=table.pairs("when"),
        auth=_auth(table.table("auth")),
        verified=table.choice("verified", _VERIFIED, "documents"),
        about=table.text("about"),
    )
    table.done()
    return host


def _rule(table: Table) -> Rule:
    rule = Rule(
        methods=frozenset(table.texts("methods", form=METHOD, what="a method in capitals")),
        path=table.pattern("path"),
        host=table.text("host", required=True),
        strip=table.text("strip", form=PATH, what=PATH_WORDS),
        prepend=table.text("prepend", form=PATH, what=PATH_WORDS),
    )
    table.done()
    return rule


def _auth(table: Table | None) -> Auth | None:
    if table is None:
        return None
    auth = Auth(
        scheme=table.choice("scheme", _SCHEMES, "bearer"),
        header=table.text("header", "Authorization", form=FIELD, what=FIELD_WORDS),
    )
    table.done()
    return auth


def _param(name: str, table: Table) -> Param:
    param = Param(
        name=name,
        pattern=table.text("pattern", required=True),
        required=table.flag("required"),
        example=table.text("example"),
        description=table.text("description"),
        source=table.text(
            "source",
            "user",
            form=r"user|call|(?:token|callback):[A-Za-z0-9_.]+",
            what="user, call, token:PATH or callback:NAME",
        ),
        aliases=table.texts("aliases"),
        lower=table.flag("lower"),
        informational=table.flag("informational"),
        default=table.text("default") if table.has("default") else None,
        title=table.text("title"),
        prefix=table.text("prefix"),
    )
    table.done()
    return param


def _key_place(table: Table) -> KeyPlace:
    place = KeyPlace(
        where=table.choice("in", _PLACES, "header"),
        name=table.text("name", required=True, form=FIELD, what="a name without spaces"),
        paths=table.patterns("paths"),
        replace=table.flag("replace"),
        closed=table.texts("closed", form=FIELD, what="the name of a call"),
    )
    if not table.has("in"):
        table.fault("in", "is missing")
    if place.replace and place.name.lower() == "sec-websocket-protocol":
        table.fault(
            "replace", "a token is never put among subprotocols; it goes into the service's own place"
        )
    table.done()
    return place


def _link(table: Table) -> Link:
    link = Link(
        where=table.choice("in", _WHERE, "json"), names=table.texts("names"), paths=table.patterns("paths")
    )
    if not link.names:
        table.fault("names", "is missing")
    if link.where == "request" and not link.paths:
        table.fault("paths", "is missing: bodies are read whole there, so the paths are named")
    table.done()
    return link


def _presigned(table: Table) -> Presigned:
    presigned = Presigned(
        host=table.text("host", required=True, form=PRESIGNED, what="a host or '*.' and a domain"),
        paths=table.patterns("paths"),
    )
    table.done()
    return presigned


def _read_only(table: Table) -> ReadOnlyEntry:
    entry = ReadOnlyEntry(
        methods=frozenset(table.texts("methods", form=METHOD, what="a method in capitals")),
        path=table.pattern("path"),
        source=table.text("source", required=True, form=URL, what=URL_WORDS),
        host=table.text("host", form=NAME, what=NAME_WORDS),
        excepted=_spellings(table, "except"),
        without=table.texts("without"),
        graphql=table.flag("graphql"),
        without_fields=frozenset(table.texts("without_fields", form=FIELD_OF_TYPE, what="a field's name")),
    )
    if not entry.methods:
        table.fault("methods", "is missing: an allow-list names its methods")
    if entry.without_fields and not entry.graphql:
        table.fault("without_fields", "is for GraphQL: graphql = true is missing")
    table.done()
    return entry


def _public(table: Table) -> PathPattern:
    path = table.pattern("path")
    table.done()
    return path
