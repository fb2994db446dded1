"""Airtable: pages by offset, long queries by POST."""

from playing import Played, Reply
from support.arrivals import Arrival

API = "api.airtable.com/v0"


def record(number: int, fields: object = None) -> dict[str, object]:
    return {
        "id": f"rec{number}",
        "createdTime": "2026-01-01T00:00:00.000Z",
        "fields": fields or {"Name": f"n{number}"},
    }


def records(call: Arrival) -> Reply:
    asked = call.json() if call.request.body else call.query
    if asked.get("offset") == "itr1/rec2":
        return Reply({"records": [record(3)]})
    return Reply({"records": [record(1), record(2)], "offset": "itr1/rec2"})


def created(call: Arrival) -> Reply:
    asked = call.json()
    if "records" in asked:
        return Reply({"records": [record(4, one["fields"]) for one in asked["records"]]})
    return Reply(record(4, asked["fields"]))


SERVICE = Played(
    token="patReal.airtable0123456789",
    routes={
        f"GET {API}/meta/whoami": Reply({"id": "usr1"}),
        f"GET {API}/appA/Tasks": records,
        f"POST {API}/appA/Tasks": created,
        f"POST {API}/appA/Tasks/": created,
        f"POST {API}/appA/Tasks/listRecords": records,
        f"GET {API}/appA/Tasks/rec1": Reply(record(1)),
    },
)
