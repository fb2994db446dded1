"""Dotted paths into JSON answers, as files write them: ``data.user.id``, ``items[0].id``, ``errors[].code``.

``[]`` steps into every element of a list, ``[0]`` into one; a path may begin with either. A key that itself
begins with a dot follows two of them (``error..tag``). There is nothing else: no filters, no fallbacks.
"""

import re
from collections.abc import Iterator
from typing import Any

JSON_PATH = r"(?:\[[0-9]{0,3}\])?(?:(?:^|\.)\.?[A-Za-z0-9_@-]+(?:\[[0-9]{0,3}\])?)*"
_STEP = re.compile(r"\[([0-9]*)\]|(?:^|\.)(\.?[A-Za-z0-9_@-]+)")


def values_at(document: Any, path: str) -> Iterator[Any]:
    """Every value that ``path`` leads to; none where the document has another shape."""
    found = [document]
    for step in _STEP.finditer(path):
        found = [value for item in found for value in _next(item, step.group(1), step.group(2))]
    return iter(found)


def first_at(document: Any, path: str) -> Any:
    """The first value that ``path`` leads to, or None."""
    return next(values_at(document, path), None)


def _next(item: Any, index: str | None, key: str | None) -> list[Any]:
    if key is not None:
        return [item[key]] if isinstance(item, dict) and key in item else []
    if not isinstance(item, list):
        return []
    return item if not index else item[int(index) : int(index) + 1]
