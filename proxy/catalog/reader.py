"""Reading a TOML table strictly: every value is asked for by key and type, what nobody asked for is a fault.

Faults are collected, never raised, so that one run tells all of them. A value that is missing or wrong
becomes the default, and the file is thrown away in the end.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from proxy.catalog.patterns import PathPattern
from proxy.errors import Fault

Choice = TypeVar("Choice", bound=str)


def nearest(name: str, known: Iterable[str]) -> str:
    """``, did you mean "x"?`` for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f', did you mean "{close[0]}"?' if close else ""


class Table:
    """One table of a file while it is read.

    Args:
        values: as tomllib gave them.
        file: the file's name, for messages.
        faults: where faults go; shared by all tables of all files.
        path: dotted place of this table within the file, empty for the top.
    """

    def __init__(self, values: Mapping[str, Any], file: str, faults: list[Fault], path: str = "") -> None:
        self._values = values
        self._file = file
        self._faults = faults
        self._path = path
        self._asked: set[str] = set()

    def place(self, key: str) -> str:
        """The file and dotted key, as faults show them."""
        dotted = f"{self._path}.{key}" if self._path and key else self._path or key
        return f"{self._file}: {dotted}" if dotted else self._file

    def fault(self, key: str, message: str) -> None:
        """Notes that the value of ``key`` is wrong."""
        self._faults.append(Fault(self.place(key), message))

    def has(self, key: str) -> bool:
        """True when the file sets ``key``."""
        return key in self._values

    def _take(self, key: str, kind: type, what: str) -> Any:
        """The raw value, or None with a fault when it is there and of another type."""
        self._asked.add(key)
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fault(key, f"must be {what}, not {value!r}")
            return None
        return value

    def text(
        self, key: str, default: str = "", *, required: bool = False, form: str = "", what: str = ""
    ) -> str:
        """A string; ``form`` is a regular expression it must match fully, ``what`` says so in words."""
        value: str | None = self._take(key, str, "a string")
        if value is None:
            if required and key not in self._values:
                self.fault(key, "is missing")
            return default
        if required and not value:
            self.fault(key, "must not be empty")
        elif value and form and re.fullmatch(form, value, re.ASCII) is None:
            self.fault(key, f"must be {what}, not {value!r}")
        return value

    def choice(self, key: str, options: tuple[Choice, ...], default: Choice) -> Choice:
        """One of ``options``."""
        value = self._take(key, str, f"one of {', '.join(options)}")
        if value is None:
            return default
        for option in options:
            if option == value:
                return option
        self.fault(key, f"must be one of {', '.join(options)}, not {value!r}{nearest(value, options)}")
        return default

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false."""
        value: bool | None = self._take(key, bool, "true or false")
        return default if value is None else value

    def number(self, key: str, *, lowest: int = 0, highest: int = 10**9) -> int | None:
        """A whole number within bounds, or None when absent."""
        value: int | None = self._take(key, int, "a whole number")
        if value is not None and not lowest <= value <= highest:
            self.fault(key, f"must lie between {lowest} and {highest}, not {value}")
            return None
        return value

    def numbers(self, key: str, *, lowest: int, highest: int) -> tuple[int, ...]:
        """A list of whole numbers within bounds."""
        out: list[int] = []
        for at, item in enumerate(self._take(key, list, "a list of whole numbers") or ()):
            if isinstance(item, int) and not isinstance(item, bool) and lowest <= item <= highest:
                out.append(item)
            else:
                self.fault(f"{key}[{at}]", f"must be a whole number from {lowest} to {highest}, not {item!r}")
        return tuple(out)

    def texts(self, key: str, *, form: str = "", what: str = "") -> tuple[str, ...]:
        """A list of strings, each of which matches ``form`` fully."""
        out: list[str] = []
        for at, item in enumerate(self._take(key, list, "a list of strings") or ()):
            if not isinstance(item, str) or not item:
                self.fault(f"{key}[{at}]", f"must be a string that is not empty, not {item!r}")
            elif form and re.fullmatch(form, item, re.ASCII) is None:
                self.fault(f"{key}[{at}]", f"must be {what}, not {item!r}")
            else:
                out.append(item)
        return tuple(out)

    def pairs(self, key: str, *, form: str = "", what: str = "") -> dict[str, str]:
        """A table of strings; ``form`` is for its keys."""
        out: dict[str, str] = {}
        for name, item in (self._take(key, dict, "a table of strings") or {}).items():
            if not isinstance(item, str):
                self.fault(f"{key}.{name}", f"must be a string, not {item!r}")
            elif form and re.fullmatch(form, name, re.ASCII) is None:
                self.fault(f"{key}.{name}", f"its name must be {what}")
            else:
                out[name] = item
        return out

    def pattern(self, key: str) -> PathPattern:
        """One required path pattern."""
        return self._pattern(key, self.text(key, required=True) or "/")

    def patterns(self, key: str) -> tuple[PathPattern, ...]:
        """A list of path patterns."""
        return tuple(self._pattern(f"{key}[{at}]", text) for at, text in enumerate(self.texts(key)))

    def _pattern(self, key: str, text: str) -> PathPattern:
        try:
            return PathPattern(text)
        except ValueError as error:
            self.fault(key, str(error))
            return PathPattern("/")

    def table(self, key: str) -> "Table | None":
        """A table below this one, or None when absent."""
        value = self._take(key, dict, "a table")
        return None if value is None else Table(value, self._file, self._faults, self._below(key))

    def tables(self, key: str) -> "list[Table]":
        """A list of tables (``[[key]]``)."""
        out: list[Table] = []
        for at, item in enumerate(self._take(key, list, f"a list of tables ([[{key}]])") or ()):
            if isinstance(item, dict):
                out.append(Table(item, self._file, self._faults, self._below(f"{key}[{at}]")))
            else:
                self.fault(f"{key}[{at}]", f"must be a table, not {item!r}")
        return out

    def named_tables(self, key: str, *, form: str, what: str) -> "dict[str, Table]":
        """Tables by name (``[key.name]``)."""
        out: dict[str, Table] = {}
        for name, item in (self._take(key, dict, f"tables ([{key}.NAME])") or {}).items():
            if re.fullmatch(form, name, re.ASCII) is None:
                self.fault(f"{key}.{name}", f"its name must be {what}")
            elif isinstance(item, dict):
                out[name] = Table(item, self._file, self._faults, self._below(f"{key}.{name}"))
            else:
                self.fault(f"{key}.{name}", f"must be a table, not {item!r}")
        return out

    def _below(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def done(self) -> None:
        """Everything has been asked for: what is left is unknown."""
        for key in self._values:
            if key not in self._asked:
                self.fault(key, f"is not a known key{nearest(key, self._asked)}")
