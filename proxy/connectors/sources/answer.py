"""The JSON in which helpers and remote token endpoints answer, read strictly."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_NEVER_BEFORE, _NEVER_AFTER = 1_000_000_000.0, 100_000_000_000.0  # epoch seconds; milliseconds are larger


def read_object(body: bytes) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        ValueError: anything else; the text does not repeat the body.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004  # the sender's fault, told as one of several
    return found


def read_access_token(answer: Mapping[str, Any]) -> str:
    """``access_token``.

    Raises:
        ValueError: it is missing, empty or no string.
    """
    token = answer.get("access_token")
    if not isinstance(token, str) or not token:
        raise ValueError("it has no access_token")
    return token


def read_expires_at(answer: Mapping[str, Any]) -> float | None:
    """``expires_at`` in seconds since the epoch: RFC 3339 with an offset, or a number of seconds.

    Raises:
        ValueError: it is neither.
    """
    given = answer.get("expires_at")
    if given is None:
        return None
    if isinstance(given, str):
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            raise ValueError("its expires_at is not RFC 3339") from None
        if moment.tzinfo is None:
            raise ValueError("its expires_at has no offset from UTC")
        return moment.timestamp()
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError("its expires_at is neither RFC 3339 nor a number")
    if not _NEVER_BEFORE <= given <= _NEVER_AFTER:
        raise ValueError("its expires_at is not in seconds since the epoch")
    return float(given)


def read_connection_config(answer: Mapping[str, Any]) -> Mapping[str, str] | None:
    """``connection_config``: a map of strings to strings, or None.

    Raises:
        ValueError: it is something else.
    """
    given = answer.get("connection_config")
    if given is None:
        return None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise ValueError("its connection_config is not a map of strings")
    return given
