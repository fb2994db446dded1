"""Addresses that come back in JSON bodies, against a slow reading, and against the way that they went out."""

import json
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st
from support.sent_back import whose

from proxy.catalog.loader import load_catalog
from proxy.catalog.model import Service
from proxy.errors import RequestError
from proxy.forwarding.links.addresses import AddressMap, Arrival
from proxy.forwarding.links.members import Names
from proxy.forwarding.links.sent_back import own_address, with_own

SERVICES = load_catalog().services
HOST = b"proxy.example:8443"
BASE = b"https://" + HOST
DECLARED = ("a.id", "*@bind", "whole.*")
NAMES = Names(DECLARED)
OURS = {f"https://proxy.example/{n}": f'https://own.example/{n}?"' for n in range(3)}


class Pairs(list):  # type: ignore[type-arg]  # of names with values
    """An object whose names may stand in it twice."""


_TEXTS = st.one_of(
    st.sampled_from([*OURS, *(" " + text for text in OURS), '"', "\\", "{", "}]", ',":', "\u00e9\u2028"]),
    st.text(max_size=6),
)
_KEYS = st.one_of(
    st.sampled_from(["a.id", "x@bind", "@bind", "whole", "b", 'q"@bind', "\u00fc@bind"]), _TEXTS
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(_KEYS, inner, max_size=4),
        st.lists(st.tuples(_KEYS, inner), max_size=4).map(Pairs),
    ),
    max_leaves=24,
)


def written(value: object, spell: "Spelling") -> str:
    """The value as JSON, each text spelt as it comes."""
    if isinstance(value, Mapping):
        value = Pairs(value.items())
    if isinstance(value, Pairs):
        members = (f"{spell(name)}{spell.gap()}:{spell.gap()}{written(one, spell)}" for name, one in value)
        return "{" + spell.gap() + f"{spell.gap()},{spell.gap()}".join(members) + spell.gap() + "}"
    if isinstance(value, list):
        return "[" + f"{spell.gap()},{spell.gap()}".join(written(one, spell) for one in value) + "]"
    return spell(value) if isinstance(value, str) else json.dumps(value)


class Spelling:
    """Draws how texts and gaps are written; asked the same again, it writes the same."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def _next(self, most: int) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 33) % most

    def gap(self) -> str:
        return ("", "", " ", "\r\n\t")[self._next(4)]

    def __call__(self, text: str) -> str:
        way = self._next(4)
        if way == 0:
            return json.dumps(text)
        if way == 1:
            return json.dumps(text).replace("/", "\\/")
        if way == 2 and text.isascii():
            return '"' + "".join(f"\\u{ord(char):04x}" for char in text) + '"'
        return json.dumps(text, ensure_ascii=False)


def slowly(value: object, *, counts: bool = False) -> object:
    """The value with its addresses replaced, by the book."""
    if isinstance(value, str):
        return OURS[value] if counts and value in OURS else value
    if isinstance(value, Mapping):
        value = Pairs(value.items())
    if isinstance(value, Pairs):
        return Pairs((name, _member(name, one, all_count=counts)) for name, one in value)
    if isinstance(value, list):
        return [slowly(one, counts=counts and isinstance(one, str)) for one in value]
    return value


def _member(name: str, value: object, *, all_count: bool) -> object:
    counts = all_count or name == "a.id" or name.endswith("@bind")
    if isinstance(value, (Mapping, Pairs)):
        return slowly(value, counts=name == "whole")
    return slowly(value, counts=counts)


def own(url: bytes) -> bytes | None:
    new = OURS.get(url.decode())
    return None if new is None else new.encode()


@settings(max_examples=300)
@given(_JSON, st.integers(0, 2**32))
def test_replacing_in_the_text_is_replacing_in_the_document(document: object, seed: int) -> None:
    """However texts are escaped and blanks set: what counts is replaced, and where nothing counts no byte changes."""
    text = written(document, Spelling(seed)).encode("utf-8", "surrogatepass")
    sent = with_own(text, own, NAMES)
    expected = slowly(document)
    if expected == document:
        assert sent == text
    assert json.loads(sent.decode("utf-8", "surrogatepass"), object_pairs_hook=Pairs) == json.loads(
        written(expected, Spelling(0)), object_pairs_hook=Pairs
    )


@settings(max_examples=200)
@given(st.binary(max_size=120), st.integers(0, 120), st.sampled_from([*OURS]))
def test_no_bytes_are_too_odd(junk: bytes, at: int, url: str) -> None:
    """Whatever a body is, it is read to its end, and only whole texts in it change."""
    body = junk[:at] + b'{"a.id":"' + url.encode() + b'"}' + junk[at:]
    new = json.dumps(OURS[url])[1:-1].encode()
    assert with_own(body, own, NAMES) in {body, body.replace(url.encode(), new)}


SEGMENTS = st.sampled_from(
    [
        *("", "api", "v1", "v1.0", "2", "2.0", "v3", "files", "upload", "content", "files-pri", "repos", "o"),
        *("releases", "1", "assets", "batch", "discovery", "drive", "calendar", "graphql", "_api", "sites"),
        *("github", "slack@x", "~api", "a%20b", "a;b", "x:y", "users('a')", "services", "data", "open_api"),
    ]
)
_PATHS = st.lists(SEGMENTS, min_size=1, max_size=5).map(lambda parts: "".join(f"/{part}" for part in parts))
_QUERIES = st.sampled_from(["", "?", "?a=1&b=%2F", "?$skiptoken=X%27abc", '?$search="a"'])


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(SERVICES)),
    st.integers(0, 3),
    _PATHS,
    _QUERIES,
    st.sampled_from(["", "@work", "listener", "root"]),
)
def test_what_went_out_comes_back_as_it_was(name: str, at: int, path: str, query: str, way: str) -> None:
    """What an answer's address became is, sent back the same way, the very address again; bare origins aside."""
    service: Service = SERVICES[name]
    config = {param.name: param.example for param in service.params.values() if param.example}
    host = service.hosts[at % len(service.hosts)]
    try:
        origin = str(host.origin.build(config, service=name))
    except RequestError:
        return
    was = f"{origin}{path}{query}".encode()
    prefix = b"" if way in {"listener", "root"} else f"/{name}{way}".encode()
    ours = AddressMap(service, config, Arrival(BASE, prefix, b"", frozenset(SERVICES))).replaced(was)
    if ours is None or not path.strip("/"):
        return
    more = {way: name} if way in {"listener", "root"} else {}
    mine = whose(SERVICES, HOST, connection="work", config=config, **more)
    back = own_address(ours, service, mine)
    assert back == was
