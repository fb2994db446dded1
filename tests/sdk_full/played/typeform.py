"""Typeform: pages by number, images in base64."""

import base64

from playing import Played, Reply
from support.arrivals import Arrival

API = "api.typeform.com"


def forms(call: Arrival) -> Reply:
    page = int(call.query.get("page", "1"))
    items = [{"id": f"f{n}", "title": f"t{n}"} for n in range(1, 4)]
    return Reply({"total_items": 3, "page_count": 2, "items": items[page * 2 - 2 : page * 2]})


def form(call: Arrival) -> Reply:
    """As it is, and as it comes back: addresses are the service's own."""
    if call.request.method == b"PUT":
        assert call.json()["workspace"] == {"href": f"https://{API}/workspaces/w1"}
    links = {"display": "https://grace.typeform.com/to/f1", "responses": f"https://{API}/forms/f1/responses"}
    workspace = {"href": f"https://{API}/workspaces/w1"}
    return Reply({"id": "f1", "title": "Übung", "workspace": workspace, "_links": links})


def image(call: Arrival) -> Reply:
    asked = call.json()
    assert base64.b64decode(asked["image"]) == "Grüße\n".encode()
    return Reply(
        {"id": "i1", "file_name": asked["file_name"], "src": "https://images.typeform.com/images/i1"}, 201
    )


SERVICE = Played(
    token="tfp_real_typeform_0123456789",
    routes={
        f"GET {API}/me": Reply({"alias": "Grace ✓", "email": "g@example.com"}),
        f"GET {API}/forms": forms,
        f"GET {API}/forms/f1": form,
        f"PUT {API}/forms/f1": form,
        f"POST {API}/forms": lambda call: Reply({"id": "f9", **call.json()}, 201),
        f"POST {API}/images": image,
    },
)
