"""Microsoft Graph with files: pages by a whole address, uploads and downloads at presigned ones on other hosts."""

import json
from dataclasses import replace

from playing import Played, Reply
from support.arrivals import Arrival

API, FILES = "graph.microsoft.com/v1.0", "contoso-my.sharepoint.com"
SESSION = f"{FILES}/personal/grace/_api/v2.0/drive/items/01ABC/uploadSession"
DOWNLOAD = f"{FILES}/personal/grace/_layouts/15/download.aspx"


def item(name: str) -> dict[str, object]:
    return {
        "id": f"01{name}",
        "name": name,
        "size": 7,
        "file": {"mimeType": "text/plain"},
        "parentReference": {},
    }


def children(call: Arrival) -> Reply:
    if "$skiptoken" in call.query:
        return Reply({"value": [item("c")]})
    link = f"https://{API}/me/drive/root/children?$top=2&$skiptoken=X%27a%2Fb"
    return Reply({"@odata.nextLink": link, "value": [item("a"), item("b")]})


def uploaded(call: Arrival) -> Reply:
    assert call.request.body == "Grüße\n".encode()
    return Reply(item("small"), 201)


def part(call: Arrival) -> Reply:
    start, _, last = (call.request.value("content-range") or b"").removeprefix(b"bytes ").partition(b"/")
    end = int(start.partition(b"-")[2])
    if end + 1 < int(last):
        return Reply(
            {"nextExpectedRanges": [f"{end + 1}-"], "expirationDateTime": "2030-01-01T00:00:00Z"}, 202
        )
    return Reply(item("big"), 201)


def created(call: Arrival) -> Reply:
    return Reply({"id": "01new", "name": call.json()["name"], "folder": {"childCount": 0}}, 201)


def batch(call: Arrival) -> Reply:
    """Each part as if it had come alone; its address is what Graph documents, and it has no credential."""
    answers = []
    for one in call.json()["requests"]:
        assert one["url"].startswith("/me")
        assert "authorization" not in {name.lower() for name in one.get("headers") or {}}
        start = (one["method"].encode(), b"/v1.0" + one["url"].encode(), b"HTTP/1.1")
        content = json.dumps(one.get("body")).encode()
        inner = Arrival(call.sni, replace(call.request, start=start, body=content))
        route = SERVICE.routes[inner.place]
        reply = route(inner) if callable(route) else route
        answers.append(
            {
                "id": one["id"],
                "status": reply.status,
                "headers": {"Content-Type": "application/json"},
                "body": reply.body,
            }
        )
    return Reply({"responses": answers})


def referred(call: Arrival) -> Reply:
    assert call.json() == {"@odata.id": f"https://{API}/users/1"}
    return Reply(b"", 204)


STARTED = Reply(
    {"uploadUrl": f"https://{SESSION}?guid='1'&tempauth=v1.e30", "expirationDateTime": "2030-01-01T00:00:00Z"}
)
SERVICE = Played(
    token="EwB_real-graph-0123456789",
    keyless=(f"* {FILES}/*",),
    routes={
        f"GET {API}/me": Reply({"displayName": "Grace ✓", "id": "1"}),
        f"GET {API}/me/drive": Reply({"id": "d1", "name": "OneDrive", "driveType": "personal"}),
        f"GET {API}/me/drive/root": Reply(
            {"id": "01root", "name": "root", "folder": {}, "parentReference": {"driveId": "d1"}}
        ),
        f"GET {API}/me/drive/root/children": children,
        f"GET {API}/me/drive/items/01root/children": children,
        f"POST {API}/me/drive/root/children": created,
        f"POST {API}/me/drive/items/01root/children": created,
        f"GET {API}/me/drive/items/01a/content": Reply(
            b"", 302, ((b"Location", f"https://{DOWNLOAD}?UniqueId=1&tempauth=v1.e30".encode()),)
        ),
        f"GET {DOWNLOAD}": Reply("Grüße\n".encode(), media_type=b"text/plain"),
        f"PUT {API}/me/drive/root:/small:/content": uploaded,
        f"PUT {API}/me/drive/items/01root:/small:/content": uploaded,
        f"POST {API}/me/drive/root:/big:/createUploadSession": STARTED,
        f"POST {API}/me/drive/items/01root:/big:/createUploadSession": STARTED,
        f"PUT {SESSION}": part,
        f"POST {API}/$batch": batch,
        f"POST {API}/groups/1/members/$ref": referred,
    },
)
