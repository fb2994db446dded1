"""Dropbox: three hosts, arguments and results of transfers in fields, a long poll without a credential."""

import json

from playing import Played, Reply
from support.arrivals import Arrival

API, CONTENT, NOTIFY = "api.dropboxapi.com/2", "content.dropboxapi.com/2", "notify.dropboxapi.com/2"
ACCOUNT = {
    "account_id": "dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc",
    "name": {
        "given_name": "Grace",
        "surname": "H",
        "familiar_name": "Grace",
        "display_name": "Grace ✓",
        "abbreviated_name": "GH",
    },
    "email": "grace@example.com",
    "email_verified": True,
    "disabled": False,
    "locale": "en",
    "referral_link": "https://db.tt/x",
    "is_paired": False,
    "account_type": {".tag": "basic"},
    "root_info": {".tag": "user", "root_namespace_id": "1", "home_namespace_id": "1"},
}


def file(name: str) -> dict[str, object]:
    when = "2026-01-01T00:00:00Z"
    kept = {"rev": "0123456789abcdef", "size": 7, "client_modified": when, "server_modified": when}
    return {
        ".tag": "file",
        "name": name,
        "id": f"id:{name}00000",
        "path_display": f"/{name}",
        "path_lower": f"/{name}",
        **kept,
    }


def uploaded(call: Arrival) -> Reply:
    assert call.request.body == "Grüße\n".encode()
    path = json.loads(call.request.value("dropbox-api-arg") or b"")["path"]
    return Reply(file(path.removeprefix("/")))


SERVICE = Played(
    token="sl.real-dropbox-0123456789",
    keyless=(f"POST {NOTIFY}/files/list_folder/longpoll",),
    routes={
        f"POST {API}/users/get_current_account": Reply(ACCOUNT),
        f"POST {API}/files/list_folder": Reply(
            {"entries": [file("a"), file("b")], "cursor": "c1", "has_more": True}
        ),
        f"POST {API}/files/list_folder/continue": Reply(
            {"entries": [file("c")], "cursor": "c2", "has_more": False}
        ),
        f"POST {API}/files/create_folder_v2": lambda call: Reply(
            {
                "metadata": {
                    "name": call.json()["path"][1:],
                    "id": "id:folder00000",
                    "path_display": call.json()["path"],
                }
            }
        ),
        f"POST {CONTENT}/files/upload": uploaded,
        f"POST {CONTENT}/files/download": Reply(
            "Grüße\n".encode(),
            fields=((b"Dropbox-Api-Result", json.dumps(file("a")).encode()),),
            media_type=b"application/octet-stream",
        ),
        f"POST {NOTIFY}/files/list_folder/longpoll": Reply({"changes": True}),
    },
)
