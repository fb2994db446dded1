"""HubSpot: pages by a cursor that stands beside a whole address, files in a form."""

from playing import Played, Reply
from support.arrivals import Arrival

API = "api.hubapi.com"
CONTACTS = f"{API}/crm/v3/objects/contacts"
STAMPS = {"createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z", "archived": False}


def contact(number: int) -> dict[str, object]:
    return {"id": str(number), "properties": {"email": f"{number}@example.com"}, **STAMPS}


def contacts(call: Arrival) -> Reply:
    if call.query.get("after") == "2":
        return Reply({"results": [contact(3)]})
    link = f"https://{CONTACTS}?limit=2&after=2"
    return Reply({"results": [contact(1), contact(2)], "paging": {"next": {"after": "2", "link": link}}})


def uploaded(call: Arrival) -> Reply:
    assert "Grüße\n".encode() in call.request.body
    return Reply({"id": "9", "name": "a", "extension": "txt", "access": "PRIVATE", **STAMPS}, 201)


SERVICE = Played(
    token="pat-na1-real-hubspot-0123456789",
    routes={
        f"GET {CONTACTS}": contacts,
        f"GET {CONTACTS}/1": Reply(contact(1)),
        f"POST {CONTACTS}": lambda call: Reply({**contact(9), "properties": call.json()["properties"]}, 201),
        f"POST {API}/files/v3/files": uploaded,
        f"GET {API}/account-info/v3/details": Reply({"portalId": 1, "timeZone": "Europe/Berlin"}),
    },
)
