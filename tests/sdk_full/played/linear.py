"""Linear: GraphQL at one address; an upload goes to a presigned one that the user of the SDK is handed."""

from playing import Played, Reply
from support.arrivals import Arrival

API = "api.linear.app/graphql"
LISTS = {"sharedAccess": {"sharedWithUsers": []}, "reactions": []}


def graphql(call: Arrival) -> Reply:
    asked = call.json()
    query, variables = asked["query"], asked.get("variables") or {}
    if "issueCreate" in query:
        made = {"success": True, "lastSyncId": 1, "issue": {"id": "i-9"}}
        return Reply({"data": {"issueCreate": made}})
    if "issues" in query:
        after = variables.get("after")
        nodes = [{"id": f"i-{n}", "title": f"t{n}", **LISTS} for n in ([3] if after else [1, 2])]
        page = {
            "hasNextPage": not after,
            "hasPreviousPage": bool(after),
            "endCursor": "c2",
            "startCursor": "c1",
        }
        return Reply({"data": {"issues": {"nodes": nodes, "pageInfo": page}}})
    return Reply({"data": {"viewer": {"id": "u-1", "name": "Grace ✓"}}})


SERVICE = Played(
    token="lin_api_real-linear-0123456789",
    scheme="",
    settings={"kind": "static", "scheme": "raw", "token": {"env": "CONNECTOR_PROXY_TOKEN_LINEAR"}},
    routes={f"POST {API}": graphql},
)
