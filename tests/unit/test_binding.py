"""Names to listen on that stand for more addresses than the machine has."""

import socket
from typing import Any

import pytest

from proxy import listeners
from proxy.errors import StateError
from proxy.listeners import DATA, bind, texts
from proxy.settings import Listen

NAMES = {"both.test": ("2001:db8::1", "127.0.0.1"), "none.test": ("2001:db8::1", "192.0.2.1")}


@pytest.fixture(autouse=True)
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names as a machine's hosts file gives them that has not all of the addresses."""
    ask = socket.getaddrinfo

    def answer(host: str, *args: Any, **how: Any) -> list[Any]:
        return [info for ip in NAMES.get(host, (host,)) for info in ask(ip, *args, **how)]

    monkeypatch.setattr(listeners.socket, "getaddrinfo", answer)


def test_an_address_of_a_name_that_the_machine_lacks_is_left_out() -> None:
    """``localhost`` stands for ::1 too in most hosts files: without IPv6 it is 127.0.0.1 alone (R93)."""
    (one,) = bind([Listen("both.test", 0)], DATA)
    with one:
        assert texts((one,)) == [f"127.0.0.1:{one.getsockname()[1]}"]


def test_a_name_none_of_whose_addresses_is_ours_is_refused() -> None:
    """One of a name's addresses has to be there, or nothing would be listened on."""
    with pytest.raises(StateError, match=r"none\.test"):
        bind([Listen("none.test", 0)], DATA)


def test_a_taken_address_of_a_name_is_not_left_out() -> None:
    """Only what the machine lacks is left out: a port that another program has is told."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StateError, match="in use by another program"):
            bind([Listen("both.test", other.getsockname()[1])], DATA)
