"""How many requests to one service may be at work at once (R64)."""

from proxy.errors import Overloaded


class Place:
    """One of a service's places for requests at work; refuses when all are taken (R64)."""

    __slots__ = ("_at_work", "_service")

    def __init__(self, at_work: dict[str, int], service: str, most: int) -> None:
        taken = at_work.get(service, 0)
        if most and taken >= most:
            raise Overloaded(
                "the proxy already has as many requests to this service at work as it may have",
                retry_after=1.0,
                service=service,
            )
        at_work[service] = taken + 1
        self._at_work = at_work
        self._service = service

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give it back."""
        self._at_work[self._service] -= 1
