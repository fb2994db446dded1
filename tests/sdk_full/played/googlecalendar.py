"""Google Calendar: pages by token, a watch instead of uploads."""

from playing import Played, Reply
from support.arrivals import Arrival

API = "www.googleapis.com/calendar/v3"


def events(call: Arrival) -> Reply:
    items = [{"id": f"e{n}", "summary": f"Event {n}"} for n in (1, 2, 3)]
    if call.query.get("pageToken") == "EgkKB2V2ZW50LTI=":
        return Reply({"items": items[2:]})
    return Reply({"items": items[:2], "nextPageToken": "EgkKB2V2ZW50LTI="})


SERVICE = Played(
    token="ya29.real-calendar-0123456789",
    routes={
        f"GET {API}/calendars/primary": Reply({"id": "grace@example.com", "summary": "Übersicht"}),
        f"GET {API}/calendars/primary/events": events,
        f"POST {API}/calendars/primary/events": lambda call: Reply(
            {"id": "new", "summary": call.json()["summary"]}
        ),
    },
)
