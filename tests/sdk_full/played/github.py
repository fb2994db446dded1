"""GitHub: links in fields and in nearly every object, uploads at a host of their own, redirects of renamed things."""

from playing import Played, Reply
from support.arrivals import Arrival

API, UPLOADS = "api.github.com", "uploads.github.com"
REPO = f"https://{API}/repos/octocat/Hello-World"
WEB = "https://github.com/octocat/Hello-World"


def issue(number: int, title: str = "Found a bug") -> dict[str, object]:
    links = {"url": f"{REPO}/issues/{number}", "html_url": f"{WEB}/issues/{number}"}
    return {"id": number, "number": number, "title": title, "state": "open", **links}


def issues(call: Arrival) -> Reply:
    if call.query.get("page") == "2":
        return Reply([issue(3)])
    link = f'<https://{API}/repositories/1296269/issues?per_page=2&page=2>; rel="next"'
    return Reply([issue(1), issue(2)], fields=((b"Link", link.encode()),))


def asset(call: Arrival) -> Reply:
    assert call.request.body == b"zip"
    return Reply({"id": 7, "name": call.query["name"], "url": f"{REPO}/releases/assets/7"}, 201)


def graphql(call: Arrival) -> Reply:
    asked = call.json()
    if "mutation" in asked["query"]:
        return Reply({"data": {"addStar": {"starrable": {"id": asked["variables"]["id"]}}}})
    if "viewer" in asked["query"]:
        return Reply({"data": {"viewer": {"login": "octocat"}}})
    after = asked["variables"].get("after")
    nodes = [{"number": number} for number in ([3] if after else [1, 2])]
    found = {"nodes": nodes, "pageInfo": {"hasNextPage": not after, "endCursor": "Y3Vyc29yOjI="}}
    return Reply({"data": {"repository": {"issues": found}}})


SERVICE = Played(
    token="gho_real-github-0123456789",
    routes={
        f"GET {API}/user": Reply(
            {"login": "octocat", "id": 1, "url": f"https://{API}/users/octocat", "type": "User"}
        ),
        f"GET {API}/repos/octocat/Hello-World": Reply(
            {
                "id": 1296269,
                "name": "Hello-World",
                "full_name": "octocat/Hello-World",
                "url": REPO,
                "html_url": WEB,
                "issues_url": f"{REPO}/issues{{/number}}",
            }
        ),
        f"GET {API}/repos/octocat/old": Reply(
            {"message": "Moved Permanently", "url": f"https://{API}/repositories/1296269"},
            301,
            ((b"Location", f"https://{API}/repos/octocat/Hello-World".encode()),),
        ),
        f"GET {API}/repos/octocat/Hello-World/issues": issues,
        f"GET {API}/repositories/1296269/issues": issues,
        f"POST {API}/repos/octocat/Hello-World/issues": lambda call: Reply(
            issue(1347, call.json()["title"]), 201
        ),
        f"GET {API}/repos/octocat/Hello-World/releases/1": Reply(
            {
                "id": 1,
                "tag_name": "v1",
                "url": f"{REPO}/releases/1",
                "upload_url": f"https://{UPLOADS}/repos/octocat/Hello-World/releases/1/assets{{?name,label}}",
            }
        ),
        f"POST {UPLOADS}/repos/octocat/Hello-World/releases/1/assets": asset,
        f"POST {API}/graphql": graphql,
    },
)
