"""Box: uploads at a host of their own, in parts at addresses that the first answer names; downloads by redirect."""

import base64
import hashlib

from playing import Played, Reply
from support.arrivals import Arrival

API, UPLOAD, DOWNLOAD = "api.box.com/2.0", "upload.box.com/api/2.0", "dl.boxcloud.com"
SESSION = "files/upload_sessions/F971964745A5CD0C001BBE4E58196BFD"
PART = 256 * 1024  # Box says 8 MiB; its SDKs take what the session says
BIG = b"x" * (2 * PART + 100)


def file(name: str) -> dict[str, object]:
    return {"type": "file", "id": "123", "name": name, "etag": "1"}


def items(call: Arrival) -> Reply:
    offset = int(call.query.get("offset", "0"))
    entries = [{"type": "folder", "id": str(n), "name": f"n{n}"} for n in (1, 2, 3)][offset : offset + 2]
    return Reply({"total_count": 3, "offset": offset, "limit": 2, "entries": entries})


def uploaded(call: Arrival) -> Reply:
    assert "Grüße\n".encode() in call.request.body
    return Reply({"total_count": 1, "entries": [file("a.txt")]}, 201)


def session(call: Arrival) -> Reply:
    asked = call.json()
    address = f"https://{UPLOAD}/{SESSION}"
    names = {
        "upload_part": "",
        "commit": "/commit",
        "abort": "",
        "list_parts": "/parts",
        "status": "",
        "log_event": "/log",
    }
    return Reply(
        {
            "id": SESSION.rpartition("/")[2],
            "type": "upload_session",
            "session_expires_at": "2030-01-01T00:00:00Z",
            "part_size": PART,
            "total_parts": -(-asked["file_size"] // PART),
            "num_parts_processed": 0,
            "session_endpoints": {name: address + end for name, end in names.items()},
        },
        201,
    )


def part(call: Arrival) -> Reply:
    start = int((call.request.value("content-range") or b"").split()[1].partition(b"-")[0])
    assert call.request.body == BIG[start : start + PART]
    digest = hashlib.sha1(call.request.body)  # noqa: S324  # Box's digest
    assert call.request.value("digest") == b"sha=" + base64.b64encode(digest.digest())
    return Reply({"part": listed(start)})


def listed(start: int) -> dict[str, object]:
    body = BIG[start : start + PART]
    sha1 = hashlib.sha1(body).hexdigest()  # noqa: S324  # the same
    return {"part_id": f"{start:08X}", "offset": start, "size": len(body), "sha1": sha1}


def parts(_: Arrival) -> Reply:
    entries = [listed(start) for start in range(0, len(BIG), PART)]
    return Reply({"entries": entries, "total_count": len(entries), "offset": 0, "limit": 100})


SERVICE = Played(
    token="real-box-0123456789abcdef",
    keyless=(f"GET {DOWNLOAD}/*",),
    routes={
        f"GET {API}/users/me": Reply({"type": "user", "id": "1", "name": "Grace ✓"}),
        f"GET {API}/folders/0/items": items,
        f"POST {API}/folders": lambda call: Reply(
            {"type": "folder", "id": "9", "name": call.json()["name"]}, 201
        ),
        f"GET {API}/files/123/content": Reply(
            b"", 302, ((b"Location", f"https://{DOWNLOAD}/d/1/abc!def/download?x=1%2F2".encode()),)
        ),
        f"GET {DOWNLOAD}/d/1/abc!def/download": Reply("Grüße\n".encode(), media_type=b"text/plain"),
        f"POST {UPLOAD}/files/content": uploaded,
        f"POST {UPLOAD}/files/upload_sessions": session,
        f"PUT {UPLOAD}/{SESSION}": part,
        f"GET {UPLOAD}/{SESSION}/parts": parts,
        f"POST {UPLOAD}/{SESSION}/commit": Reply({"total_count": 1, "entries": [file("big")]}, 201),
    },
)
