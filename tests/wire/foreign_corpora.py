"""Corpora of others, read in place where they lie beside the checkout; empty where they do not."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path

from hostile import AUTH, HOST, LINE, SMUGGLED, Answer, Case, covered

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"


def _records(name: str) -> Iterable[dict[str, object]]:
    with (CORPORA / name).open() as lines:
        yield from map(json.loads, lines)


def shared_requests() -> list[Case]:
    """Requests of the corpora beside the checkout, empty where they are not there."""
    if not CORPORA.is_dir():
        return []
    cases: list[Case] = []
    for record in _records("smuggler-te-gadgets.jsonl"):
        gadget = base64.b64decode(str(record["gadget_b64"]))
        cases.append(Case(str(record["id"]), covered(gadget + b"\r\n", b"0\r\n\r\n" + SMUGGLED), "either"))
    for record in _records("portswigger-desync-techniques.jsonl"):
        gadget = base64.b64decode(str(record["gadget_b64"]))
        if record["target"] == "te":
            cases.append(
                Case(str(record["id"]), covered(gadget + b"\r\n", b"0\r\n\r\n" + SMUGGLED), "either")
            )
        else:
            # read by its chunks the inner request is a body; by the mangled length of one size line it is not
            head = LINE + HOST + AUTH + b"Transfer-Encoding: chunked\r\n" + gadget.replace(b"{n}", b"5")
            body = b"{CHUNK}\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"
            cases.append(Case(str(record["id"]), head + b"\r\n\r\n" + body, "either"))
    for record in _records("portswigger-funky-chunks.jsonl"):
        raw = base64.b64decode(str(record["raw_b64"]))
        cases.append(Case(str(record["id"]), _aimed(raw), "either"))
    cases.extend(
        Case(str(record["id"]), _aimed(base64.b64decode(str(record["raw_b64"]))), "either", whole=False)
        for record in _records("llhttp-messages.jsonl")
        if str(record["type"]).startswith("request")
    )
    return cases


def _aimed(raw: bytes) -> bytes:
    """A foreign message with its first target led to the service and a key in it, where it has a normal first line."""
    line, newline, rest = raw.partition(b"\r\n")
    words = line.split(b" ")
    if newline and len(words) == 3 and words[1].startswith(b"/"):
        return b" ".join((words[0], b"{AT}" + words[1], words[2])) + b"\r\n" + AUTH + rest
    return raw


def shared_answers() -> list[Answer]:
    """Answers of the corpora beside the checkout, empty where they are not there."""
    if not CORPORA.is_dir():
        return []
    found = [
        Answer(str(r["id"]), (base64.b64decode(str(r["raw_b64"])),), "cut" if r["truncated"] else "either")
        for r in _records("upstream-response-probes.jsonl")
    ]
    found.extend(
        Answer(str(r["id"]), (base64.b64decode(str(r["raw_b64"])),), "either")
        for r in _records("llhttp-messages.jsonl")
        if str(r["type"]).startswith("response")
    )
    return found
