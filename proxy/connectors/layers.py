"""A mapping of thousands that is replaced at every change: what stays is shared, not copied. Pure."""

from collections.abc import Iterator, Mapping
from math import isqrt
from typing import TypeVar, final, overload

_K = TypeVar("_K")
_V = TypeVar("_V")
_D = TypeVar("_D")
_FEW = 64
_NOT_THERE = object()


@final
class Layers(Mapping[_K, _V]):
    """Never changed; :meth:`changed` gives the next one, which costs the changes and not the whole.

    A large lower dict and a small upper one that hides it; None in the upper one hides a key altogether.
    """

    __slots__ = ("_lower", "_upper")

    def __init__(self, lower: Mapping[_K, _V], upper: Mapping[_K, _V | None] | None = None) -> None:
        self._lower = lower
        self._upper: Mapping[_K, _V | None] = {} if upper is None else upper

    def changed(self, changes: Mapping[_K, _V | None]) -> "Layers[_K, _V]":
        """This with other values for some keys, in their places; None takes a key out."""
        upper = {**self._upper, **changes}
        if len(upper) <= max(_FEW, isqrt(len(self._lower))):
            return Layers(self._lower, upper)
        merged = {**self._lower, **upper}
        return Layers({key: value for key, value in merged.items() if value is not None})

    @overload
    def get(self, key: _K, default: None = None, /) -> _V | None: ...
    @overload
    def get(self, key: _K, default: _V | _D, /) -> _V | _D: ...
    def get(self, key: _K, default: object = None, /) -> object:
        """As of a dict; on the way of every request."""
        found = self._upper.get(key, _NOT_THERE)
        if found is _NOT_THERE:
            return self._lower.get(key, default)
        return default if found is None else found

    def __getitem__(self, key: _K) -> _V:
        found = self._upper[key] if key in self._upper else self._lower[key]
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: object) -> bool:
        return (self._upper[key] is not None) if key in self._upper else key in self._lower  # type: ignore[index]  # it is one of its keys

    def __iter__(self) -> Iterator[_K]:
        upper = self._upper
        for key in self._lower:
            if key not in upper or upper[key] is not None:
                yield key
        for key, value in upper.items():
            if value is not None and key not in self._lower:
                yield key

    def __len__(self) -> int:
        lower = self._lower
        return len(lower) + sum(
            (value is not None) - (key in lower) for key, value in self._upper.items()
        )  # one more, one less, or another value
