"""Looking for secrets where they must not be, in every spelling that an encoding would give them."""

import base64
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path


def spellings(secret: str) -> Iterator[bytes]:
    """The secret as it is, and as encodings would write it (Base64 at all three offsets)."""
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    yield urllib.parse.quote(secret).encode()
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        yield encoded[4 if offset else 0 : -4]


def found_in(data: bytes, secrets: Iterable[str]) -> list[str]:
    """Which of the secrets the bytes hold in any spelling."""
    return [secret for secret in secrets if any(spelling in data for spelling in spellings(secret))]


def everything_under(folder: Path) -> bytes:
    """The bytes of every file in a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
