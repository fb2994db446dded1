"""O365: its address is an attribute of a class; its uploads go without a credential to where an answer says."""

import pathlib
import tempfile

from O365 import Account, MSGraphProtocol
from O365.utils import BaseTokenBackend

PACKAGE, BASES, WITHOUT = "O365", ("/one_drive/", "/one_drive@default/"), {}


class ProxyKey(BaseTokenBackend):
    """Holds the key as if it were a token."""

    has_data = True

    def __init__(self, key) -> None:
        super().__init__()
        self._key = key

    def load_token(self):
        return True

    def get_access_token(self, **_):
        return {"secret": self._key}

    def get_account(self, **_):
        return None

    def token_is_expired(self, **_):
        return False

    def token_is_long_lived(self, **_):
        return True


def drive(tour, base, key):
    MSGraphProtocol._protocol_url = tour.http + base
    account = Account(
        ("id", "secret"), token_backend=ProxyKey(key), request_retries=0, raise_http_errors=True
    )
    return account.storage().get_default_drive()


def use(tour, base):
    mine = drive(tour, base, tour.key)
    root = mine.get_root_folder()
    tour.read(lambda: root.name, "root")
    tour.pages(lambda: [one.name for one in root.get_items(limit=None, batch=2)], ["a", "b", "c"])
    tour.write(lambda: root.create_child_folder("Grüße").name, "Grüße")
    with tempfile.TemporaryDirectory() as folder:
        small = pathlib.Path(folder, "small")
        small.write_text("Grüße\n", encoding="utf-8")
        tour.upload(lambda: root.upload_file(str(small)).name, "small")
        big = pathlib.Path(folder, "big")
        big.write_bytes(b"x" * (5 * 1024 * 1024))
        tour.upload(lambda: root.upload_file(str(big)).name, "big")


def refuse(tour, base):
    root = drive(tour, base, tour.narrow).get_root_folder()
    tour.refused(lambda: root.create_child_folder("no"), "HTTPError")
