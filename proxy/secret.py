"""A string that cannot be printed, logged, compared by accident or pickled."""

import hmac
from typing import NoReturn, final

MASK = "[secret]"


@final
class Secret:
    """Holds a token, key or password; only :meth:`reveal` gives it out.

    ``repr``, ``str`` and ``format`` give a mask, pickling and copying to JSON fail, equality takes
    constant time, and the value has no hash, so it cannot become a dict key or a set member.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError("a Secret holds a str")
        self._value = value

    def reveal(self) -> str:
        """The value itself: call it where the bytes leave for their destination, nowhere else."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is nobody's dict key

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str, /) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
