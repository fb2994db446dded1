"""What a batch holds, whatever its form: requests as they are written there, and what is sent for them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from proxy.errors import AmbiguousKey, AmbiguousTarget, BadRequest, CallerError, CredentialPath, NotPermitted
from proxy.forwarding.headers import Field

MOST_S = 30.0  # for the whole of a batch to arrive
MOST_BYTES = 4_194_304  # of a batch: Graph takes no larger one, Google's clients make smaller ones


class Inner(NamedTuple):
    """One request inside of another, nothing decided.

    ``url``: printable ASCII, absolute or a path and query. ``fields``: names as they are written, and values.
    ``body`` None: it has none.
    """

    method: bytes
    url: bytes
    fields: tuple[Field, ...]
    body: bytes | None

    def __repr__(self) -> str:
        return f"<Inner {self.method!r}>"  # addresses and values may hold keys


class Outer(NamedTuple):
    """What is sent in place of an :class:`Inner`: the whole head as a service gets it, path and body."""

    head: bytes
    path: bytes
    query: bytes | None
    body: bytes | None

    @property
    def target(self) -> bytes:
        """Path and query."""
        return self.path if self.query is None else b"%b?%b" % (self.path, self.query)

    def __repr__(self) -> str:
        return f"<Outer {self.path!r}>"


class Envelope(Protocol):
    """A batch that was read."""

    @property
    def inners(self) -> tuple[Inner, ...]:
        """Its parts, in order; at least one."""

    def written(self, outers: Sequence[Outer]) -> bytes:
        """The batch with each part replaced; every byte that need not change stays.

        Raises:
            BadRequest: a part cannot be said in this form.
        """


# What a refusal of a part may be; whatever else is wrong with one is a fault of the batch that holds it.
_KEPT = (AmbiguousKey, AmbiguousTarget, BadRequest, CredentialPath, NotPermitted)


@contextmanager
def numbered(number: int) -> Iterator[None]:
    """Refusals inside are about the part of that number, counted from 1, and say so."""
    try:
        yield
    except CallerError as error:
        kind = type(error) if isinstance(error, _KEPT) else BadRequest
        raise kind(f"part {number} of the batch: {error.detail}", service=error.service) from error
