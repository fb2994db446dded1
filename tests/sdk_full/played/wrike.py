"""Wrike: the account's own data centre, writes whose parameters stand in the query, pages by token."""

from playing import Played, Reply
from support.arrivals import Arrival

API = "app-eu.wrike.com/api/v4"


def tasks(call: Arrival) -> Reply:
    if call.query.get("nextPageToken") == "AAAA":
        return Reply({"kind": "tasks", "data": [{"id": "t3"}]})
    return Reply(
        {"kind": "tasks", "nextPageToken": "AAAA", "responseSize": 3, "data": [{"id": "t1"}, {"id": "t2"}]}
    )


def created(call: Arrival) -> Reply:
    assert call.request.body == b""
    return Reply({"kind": "tasks", "data": [{"id": "t9", "title": call.query["title"]}]})


SERVICE = Played(
    token="real-wrike-0123456789abcdef",
    settings={
        "kind": "static",
        "token": {"env": "CONNECTOR_PROXY_TOKEN_WRIKE"},
        "connection_config": {"host": "app-eu.wrike.com"},
    },
    routes={
        f"GET {API}/contacts": Reply({"kind": "contacts", "data": [{"id": "c1", "firstName": "Grace ✓"}]}),
        f"GET {API}/tasks": tasks,
        f"POST {API}/folders/f1/tasks": created,
    },
)
