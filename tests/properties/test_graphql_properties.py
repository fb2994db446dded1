"""No GraphQL request of a read-only key holds anything but queries: documents made by chance, read by two parsers."""

import json

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from hypothesis import given, settings
from hypothesis import strategies as st
from support.depth import examples

from proxy.forwarding.permits.graphql import why_not_body

NAMES = st.sampled_from(["a", "query", "mutation", "subscription", "fragment", "on", "_x", "tempCloneToken"])
GAPS = st.sampled_from(
    [
        " ",
        "\n",
        "\r\n",
        ",",
        "\t",
        "\ufeff",
        " # mutation {\n",
        "\n#\r\n",
        "#}\n",
        "\r",
        "#\r",
        "\x0c",
        "\u2028",
    ]
)
STRINGS = st.sampled_from(['"mutation { a }"', '"\\"}"', '"\\u007d"', '"""}"""', '"# "', '""'])


@st.composite
def selections(draw, depth=0):
    fields = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 4 if depth < 3 else 2))
        name, gap = draw(NAMES), draw(GAPS)
        if kind == 0:
            fields.append(f"{draw(NAMES)}:{gap}{name}")
        elif kind == 1:
            fields.append(f"{name}({draw(NAMES)}: {draw(STRINGS)})")
        elif kind == 2:
            fields.append(f"...{gap}F @skip(if:{gap}true)")
        elif kind == 3:
            fields.append(f"... on {name}{gap}{draw(selections(depth + 1))}")
        else:
            fields.append(f"{name}{gap}{draw(selections(depth + 1))}")
    return "{" + draw(GAPS) + draw(GAPS).join(fields) + draw(GAPS) + "}"


@st.composite
def documents(draw):
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(
            st.sampled_from(
                ["", "query", "query Q", "mutation", "mutation M", "subscription", "fragment F on A"]
            )
        )
        parts.append(kind + draw(GAPS) + draw(selections()))
    return draw(GAPS).join(parts)


@st.composite
def spelt(draw, text):
    """The text as a JSON string, any character of it escaped or not."""
    out = []
    for character in text:
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        escaped = f"\\u{ord(character):04x}"
        out.append(escaped if draw(st.booleans()) else plain)
    return '"' + "".join(out) + '"'


def operations(document: str) -> set[OperationType] | None:
    """What the document holds by a second reading; None when it has none."""
    try:
        parsed = parse(document)
    except GraphQLError:
        return None
    return {one.operation for one in parsed.definitions if isinstance(one, OperationDefinitionNode)}


def loose(document: str) -> str:
    """The document for a reader whose comments end at LF only."""
    out = []
    for line in document.split("\n"):
        in_string, end = False, len(line)
        for at, character in enumerate(line):
            if character == '"' and line[at - 1 : at] != "\\":
                in_string = not in_string
            elif character == "#" and not in_string:
                end = at
                break
        out.append(line[:end])
    return "\n".join(out).replace("\r", " ").replace("\x0c", " ").replace("\u2028", " ")


@settings(max_examples=examples(300))
@given(data=st.data(), document=documents(), name=st.sampled_from([None, "Q", "M"]))
def test_what_passes_only_queries(data, document, name):
    """Whatever passes is, by the reference parser and by a reader with other ends of lines, made of queries only."""
    written = data.draw(spelt(document)) if len(document) < 150 else json.dumps(document)
    body = f'{{"query": {written}, "operationName": {json.dumps(name)}}}'.encode()
    reason = why_not_body(body, frozenset({"tempCloneToken"}))
    held = operations(document)
    if not reason:
        assert held == {OperationType.QUERY}
        assert operations(loose(document)) in (None, {OperationType.QUERY})
    elif held == {OperationType.QUERY}:
        odd = any(mark in document for mark in ('"""', "\r", "\x0c", "\u2028", "tempCloneToken"))
        assert odd, reason


@settings(max_examples=examples(150))
@given(batch=st.lists(documents(), min_size=1, max_size=3))
def test_no_batch_hides_a_mutation(batch):
    """In a batch every document counts, wherever it stands."""
    body = json.dumps([{"query": document} for document in batch]).encode()
    if not why_not_body(body, frozenset()):
        assert all(operations(document) == {OperationType.QUERY} for document in batch)


@settings(max_examples=examples(300))
@given(raw=st.binary(max_size=200))
def test_any_bytes_have_a_verdict(raw):
    """No body makes the judge fail, and none that is no JSON passes."""
    if not why_not_body(raw, frozenset()):
        assert "query" in json.dumps(json.loads(raw))
