"""ClickUp: pages by number until one is empty, attachments in a form."""

from playing import Played, Reply
from support.arrivals import Arrival

API = "api.clickup.com/api/v2"
TASK = {"id": "9hz", "name": "Grüße"}


def tasks(call: Arrival) -> Reply:
    page = int(call.query.get("page", "0"))
    return Reply(
        {"tasks": [[{"id": "t1"}, {"id": "t2"}], [{"id": "t3"}], []][min(page, 2)], "last_page": page > 0}
    )


def attached(call: Arrival) -> Reply:
    assert "Grüße\n".encode() in call.request.body
    return Reply({"id": "a1", "title": "a.txt"})


SERVICE = Played(
    token="pk_real_clickup_0123456789",
    scheme="",
    settings={"kind": "static", "scheme": "raw", "token": {"env": "CONNECTOR_PROXY_TOKEN_CLICKUP"}},
    routes={
        f"GET {API}/user": Reply({"user": {"id": 1, "username": "Grace ✓"}}),
        f"GET {API}/list/1/task": tasks,
        f"POST {API}/list/1/task": lambda call: Reply({"id": "t9", "name": call.json()["name"]}),
        f"GET {API}/task/9hz": Reply(TASK),
        f"GET {API}/task/9hz/": Reply(TASK),
        f"POST {API}/task/9hz/attachment": attached,
    },
)
