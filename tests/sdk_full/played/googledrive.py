"""Google Drive: an upload that answers with where to go on, media by a parameter, discovery documents for everybody."""

import email
import importlib.resources
import json

from playing import Played, Reply
from support.arrivals import Arrival

HOST = "www.googleapis.com"
API, UPLOAD = f"{HOST}/drive/v3", f"{HOST}/upload/drive/v3"
DISCOVERY = f"{HOST}/discovery/v1/apis/drive/v3/rest"
SESSION = f"https://{UPLOAD}/files?uploadType=resumable&upload_id=ADPycd"


def file(name: str) -> dict[str, object]:
    return {"kind": "drive#file", "id": name, "name": name, "mimeType": "text/plain"}


def files(call: Arrival) -> Reply:
    if call.query.get("pageToken") == "~!!~AI9":
        return Reply({"files": [file("c")]})
    return Reply({"files": [file("a"), file("b")], "nextPageToken": "~!!~AI9"})


def uploaded(call: Arrival) -> Reply:
    kind, body = call.query["uploadType"], call.request.body
    if kind == "resumable":
        assert call.json()["name"] == "big"
        return Reply(b"", fields=((b"Location", SESSION.encode()),))
    kind = call.request.value("content-type") or b""
    about, media = email.message_from_bytes(b"Content-Type: " + kind + b"\n\n" + body).get_payload()
    assert media.get_payload(decode=True).rstrip() == "Grüße".encode()
    return Reply(file(json.loads(about.get_payload(decode=True))["name"]))


def part(call: Arrival) -> Reply:
    start, _, last = (call.request.value("content-range") or b"").partition(b"/")
    if not start.endswith(b"-%d" % (int(last) - 1)):
        end = start.rpartition(b"-")[2]
        return Reply(b"", 308, ((b"Range", b"bytes=0-" + end),))
    return Reply(file("big"))


def document(_: Arrival) -> Reply:
    package = importlib.resources.files("googleapiclient.discovery_cache")
    return Reply(json.loads((package / "documents" / "drive.v3.json").read_text(encoding="utf-8")))


def media(call: Arrival) -> Reply:
    if call.query.get("alt") == "media":
        return Reply("Grüße\n".encode(), media_type=b"text/plain")
    return Reply(file("a"))


SERVICE = Played(
    keyless=(f"GET {DISCOVERY}",),
    token="ya29.real-drive-0123456789",
    routes={
        f"GET {DISCOVERY}": document,
        f"GET {API}/about": Reply({"user": {"displayName": "Grace ✓"}}),
        f"GET {API}/files": files,
        f"GET {API}/files/a": media,
        f"POST {API}/files": lambda call: Reply(file(call.json()["name"])),
        f"POST {UPLOAD}/files": uploaded,
        f"PUT {UPLOAD}/files": part,
    },
)
