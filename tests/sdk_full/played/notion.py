"""Notion: pages by cursor, files in two steps, the second at an address that its SDKs make themselves."""

from playing import Played, Reply
from support.arrivals import Arrival

API = "api.notion.com/v1"
NEXT = "fe2cc560-036c-44cd-90e8-294d5a74cebc"


def users(call: Arrival) -> Reply:
    last = call.query.get("start_cursor") == NEXT
    found = [{"object": "user", "id": one} for one in (["u-3"] if last else ["u-1", "u-2"])]
    return Reply(
        {"object": "list", "results": found, "next_cursor": None if last else NEXT, "has_more": not last}
    )


def sent(call: Arrival) -> Reply:
    assert "Grüße\n".encode() in call.request.body
    return Reply({"object": "file_upload", "id": "f-1", "status": "uploaded"})


SERVICE = Played(
    token="ntn_real-notion-0123456789",
    routes={
        f"GET {API}/users/me": Reply({"object": "user", "id": "bot-1", "name": "Relay ✓"}),
        f"GET {API}/users": users,
        f"POST {API}/pages": lambda call: Reply({"object": "page", "id": "p-1", **call.json()}),
        f"POST {API}/file_uploads": Reply(
            {"object": "file_upload", "id": "f-1", "upload_url": f"https://{API}/file_uploads/f-1/send"}
        ),
        f"POST {API}/file_uploads/f-1/send": sent,
    },
)
