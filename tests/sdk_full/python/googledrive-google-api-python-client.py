"""google-api-python-client: uploads leave its API's base, and need a description that names the proxy."""

import importlib.resources
import io
import json

from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.discovery import build, build_from_document
from googleapiclient.http import MediaIoBaseDownload, MediaIoBaseUpload, build_http

PACKAGE, BASES, WITHOUT = "google-api-python-client", ("/googledrive/", "/googledrive@default/"), {}
BIG = b"x" * (512 * 1024 + 7)


def client(tour, base, key):
    """By the description that the proxy hands out; or by the package's own, with the proxy's address in it."""
    if base == BASES[0]:
        where = f"{tour.http}{base}discovery/v1/apis/{{api}}/{{apiVersion}}/rest"
        return build(
            "drive", "v3", discoveryServiceUrl=where, static_discovery=False, credentials=Credentials(key)
        )
    package = importlib.resources.files("googleapiclient.discovery_cache")
    document = json.loads((package / "documents" / "drive.v3.json").read_text(encoding="utf-8"))
    document["rootUrl"] = tour.http + base
    http = AuthorizedHttp(Credentials(key), http=build_http())
    return build_from_document(document, http=http)


def use(tour, base):
    drive = client(tour, base, tour.key)
    tour.read(lambda: drive.about().get(fields="user").execute()["user"]["displayName"], "Grace ✓")
    tour.read(lambda: download(drive), "Grüße\n")
    tour.write(lambda: drive.files().create(body={"name": "Grüße"}).execute()["name"], "Grüße")
    tour.pages(lambda: pages(drive), ["a", "b", "c"])
    small = MediaIoBaseUpload(io.BytesIO("Grüße\n".encode()), "text/plain")
    tour.upload(lambda: drive.files().create(body={"name": "Ü"}, media_body=small).execute()["name"], "Ü")
    big = MediaIoBaseUpload(io.BytesIO(BIG), "text/plain", chunksize=256 * 1024, resumable=True)
    tour.upload(lambda: drive.files().create(body={"name": "big"}, media_body=big).execute()["name"], "big")


def download(drive):
    got = io.BytesIO()
    MediaIoBaseDownload(got, drive.files().get_media(fileId="a")).next_chunk()
    return got.getvalue().decode()


def pages(drive):
    names, asked = [], drive.files().list(pageSize=2)
    while asked is not None:
        found = asked.execute()
        names += [one["name"] for one in found["files"]]
        asked = drive.files().list_next(asked, found)
    return names


def refuse(tour, base):
    drive = client(tour, base, tour.narrow)
    tour.refused(lambda: drive.files().create(body={"name": "no"}).execute(), "HttpError")
