"""Finds a secret in recorded bytes, however it is spelt: the eyes of the leak tests."""

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

_RUN = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_ESCAPE = re.compile(rb"\\u([0-9a-fA-F]{4})")


def spelling_of(secret: str, data: bytes) -> str | None:
    """How ``secret`` stands in ``data``, or None when it does not.

    Looked for: plain, percent-coded once or twice, JSON escapes, each of these in base64 (any alignment, both
    alphabets), and hex.
    """
    return next((spelling for _, spelling in found(data, secret)), None)


def found(data: bytes, *secrets: str) -> Iterator[tuple[str, str]]:
    """Each secret that stands in ``data``, and how; for many secrets quicker than one after the other."""
    wanted = {secret: secret.encode() for secret in secrets}
    for name, view in _views(data):
        yield from ((secret, name) for secret, plain in wanted.items() if plain in view)
        texts = list(_base64_texts(view))
        for secret, plain in wanted.items():
            if any(plain in text for text in texts):
                yield secret, f"{name} base64"
    lower = data.lower()
    yield from ((secret, "hex") for secret, plain in wanted.items() if plain.hex().encode() in lower)


def _views(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "plain", data
    once = unquote_to_bytes(data)
    yield "percent", once
    yield "percent twice", unquote_to_bytes(once)
    yield "json", _ESCAPE.sub(_character, data)


def _character(escape: re.Match[bytes]) -> bytes:
    return str(json.loads(b'"' + escape.group() + b'"')).encode("utf-8", "surrogatepass")


def _base64_texts(data: bytes) -> Iterator[bytes]:
    for run in _RUN.findall(data):
        standard = run.translate(bytes.maketrans(b"-_", b"+/"))
        for skipped in range(4):
            text = standard[skipped:]
            yield base64.b64decode(text[: len(text) // 4 * 4])
            yield base64.b64decode(text + b"A" * (-len(text) % 4))
