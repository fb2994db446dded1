"""dropbox: insists on https, and reads its hosts from the environment when it is imported."""

import os
import sys
from urllib.parse import urlsplit

PACKAGE, BASES, WITHOUT = "dropbox", ("/dropbox", "/dropbox@default"), {}


def client(tour, base, key):
    for variable in ("DROPBOX_API_HOST", "DROPBOX_API_CONTENT_HOST", "DROPBOX_API_NOTIFY_HOST"):
        os.environ[variable] = urlsplit(tour.tls).netloc + base
    for name in [name for name in sys.modules if name.partition(".")[0] == "dropbox"]:
        del sys.modules[name]
    from dropbox import Dropbox  # noqa: PLC0415  # reads them here

    return Dropbox(key, ca_certs=tour.ca_file, max_retries_on_error=0)


def use(tour, base):
    dropbox = client(tour, base, tour.key)
    tour.read(lambda: dropbox.users_get_current_account().name.display_name, "Grace ✓")
    tour.read(lambda: dropbox.files_download("/a")[1].content.decode(), "Grüße\n")
    tour.read(lambda: dropbox.files_list_folder_longpoll("c1").changes, True)
    tour.write(lambda: dropbox.files_create_folder_v2("/Grüße").metadata.name, "Grüße")
    tour.pages(lambda: pages(dropbox), ["a", "b", "c"])
    tour.upload(lambda: dropbox.files_upload("Grüße\n".encode(), "/Übung").name, "Übung")


def pages(dropbox):
    found = dropbox.files_list_folder("")
    names = [one.name for one in found.entries]
    while found.has_more:
        found = dropbox.files_list_folder_continue(found.cursor)
        names += [one.name for one in found.entries]
    return names


def refuse(tour, base):
    dropbox = client(tour, base, tour.narrow)
    tour.refused(lambda: dropbox.files_create_folder_v2("/no"), "BadInputError")
