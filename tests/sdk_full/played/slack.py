"""Slack: form posts, errors in a 200, an upload in three steps, the second at an address of its own."""

import json

from playing import Played, Reply
from support.arrivals import Arrival

API, FILES = "slack.com/api", "files.slack.com"
UPLOAD = f"{FILES}/upload/v1/CwABAAAA"


def given(call: Arrival) -> dict[str, str]:
    """Parameters, wherever they stand."""
    return {
        **call.query,
        **(call.form() if b"json" not in (call.request.value("content-type") or b"") else call.json()),
    }


def channels(call: Arrival) -> Reply:
    last = given(call).get("cursor") == "dGVhbTpD"
    names, cursor = (["café"], "") if last else (["general", "random"], "dGVhbTpD")
    listed = [{"id": f"C{name}", "name": name} for name in names]
    return Reply({"ok": True, "channels": listed, "response_metadata": {"next_cursor": cursor}})


def posted(call: Arrival) -> Reply:
    message = given(call)
    return Reply(
        {"ok": True, "channel": message["channel"], "ts": "1.2", "message": {"text": message["text"]}}
    )


def uploaded(call: Arrival) -> Reply:
    files = [
        {**one, "url_private": f"https://{FILES}/files-pri/T1-F1/a.txt"}
        for one in json.loads(given(call)["files"])
    ]
    return Reply({"ok": True, "files": files})


SERVICE = Played(
    token="xoxp-real-slack-0123456789",
    keyless=(f"POST {UPLOAD}",),
    routes={
        f"POST {API}/auth.test": Reply({"ok": True, "user_id": "W12345678"}),
        f"* {API}/conversations.list": channels,
        f"POST {API}/chat.postMessage": posted,
        f"* {API}/files.getUploadURLExternal": Reply(
            {"ok": True, "file_id": "F1", "upload_url": f"https://{UPLOAD}"}
        ),
        f"POST {UPLOAD}": Reply(b"OK - 7", media_type=b"text/plain"),
        f"POST {API}/files.completeUploadExternal": uploaded,
        f"GET {FILES}/files-pri/T1-F1/a.txt": Reply("Grüße\n".encode(), media_type=b"text/plain"),
    },
)
