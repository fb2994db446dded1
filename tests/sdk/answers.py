"""Five services behind one TLS address: what Slack, Google Calendar, Notion, GitHub and Graph say to a few calls.

Shapes, statuses and header fields are those of the services' documentation; addresses in them are the real
ones. A service answers only to its own host name with its own token, so a call that reaches the wrong one
fails. Some calls are limited: every other one gets 429 with ``Retry-After``, as a busy workspace would.
"""

import gzip
import importlib.resources
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import parse_qsl

import batches
from support.arrivals import Arrival
from support.strict import Field, Message
from support.upstream import Peer, answer

SLACK, GOOGLE, NOTION, GITHUB = "slack.com", "www.googleapis.com", "api.notion.com", "api.github.com"
FILES, UPLOADS, GRAPH = "files.slack.com", "uploads.github.com", "graph.microsoft.com"
HOSTS = (SLACK, FILES, GOOGLE, NOTION, GITHUB, UPLOADS, GRAPH)
CODING = frozenset({GOOGLE, GITHUB, NOTION})
"""Hosts that send gzip to those who take it."""

CURSOR = "dGVhbTpDMDYxRkE1UEI="
PAGE_TOKEN = "EgkKB2V2ZW50LTI="
NEXT_USER = "fe2cc560-036c-44cd-90e8-294d5a74cebc"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: ``document`` goes out as JSON, or nothing when it is None."""

    document: object = None
    status: int = 200
    fields: tuple[Field, ...] = ()


Given = Mapping[str, str]
Route = Callable[[Given], Reply]


class Services:
    """Plays all of them; ``arrived`` holds what came, in order, ``in_batches`` the calls inside of batches.

    Args:
        tokens: host -> the token that it takes.
    """

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._limited: dict[str, int] = {}
        self.arrived: list[Arrival] = []
        self.in_batches: list[str] = []

    def fresh(self) -> None:
        """Forgets everything that came."""
        self._limited.clear()
        self.arrived.clear()
        self.in_batches.clear()

    async def script(self, peer: Peer) -> None:
        """Answers each request of a connection."""
        while True:
            request = await peer.request()
            arrival = Arrival(peer.sni, request)
            self.arrived.append(arrival)
            await peer.send(self._answered(arrival))

    def _answered(self, arrival: Arrival) -> bytes:
        batch = BATCHES.get(arrival.place)
        if batch is None or not self._is_known(arrival):
            return _encoded(self._reply(arrival), arrival)
        return batch(arrival.request, lambda one: self._in_batch(one, arrival.host))

    def _in_batch(self, request: Message, host: str) -> bytes:
        """A request inside of another: nothing of its own says who asks."""
        fields = [field for field in request.fields if field[0].lower() not in {b"accept-encoding", b"host"}]
        arrival = Arrival(host, replace(request, fields=(*fields, (b"Host", host.encode()))))
        self.in_batches.append(arrival.call)
        return _encoded(self._routed(arrival), arrival)

    def _is_known(self, arrival: Arrival) -> bool:
        wanted = (
            [b"Bearer " + self._tokens[arrival.host].encode()] if arrival.place not in WITHOUT_TOKEN else []
        )
        return arrival.request.values("authorization") == wanted

    def _reply(self, arrival: Arrival) -> Reply:
        host = arrival.host
        if host not in HOSTS or arrival.sni != host:
            return Reply({"message": f"{arrival.sni} asked for {host}"}, 421)
        return self._routed(arrival) if self._is_known(arrival) else UNAUTHORIZED[host]

    def _routed(self, arrival: Arrival) -> Reply:
        host, request = arrival.host, arrival.request
        path, _, query = request.target.decode("latin-1").partition("?")
        place = f"{'GET' if request.method == b'HEAD' else request.method.decode()} {host}{path}"
        if place in LIMITED:
            count = self._limited[place] = self._limited.get(place, 0) + 1
            if count % 2:
                return TOO_MANY[host]
        route = ROUTES.get(place)
        return route(_given(request, query)) if route else MISSING[host]


def _given(request: Message, query: str) -> Given:
    """The parameters of a call, wherever they stand; members of a JSON body that are no text, as JSON."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    media_type = (request.value("content-type") or b"").split(b";")[0].strip().lower()
    if media_type == b"application/x-www-form-urlencoded":
        given.update(parse_qsl(request.body.decode(), keep_blank_values=True))
    elif media_type == b"application/json" and request.body:
        members = json.loads(request.body)
        given.update((k, v if isinstance(v, str) else json.dumps(v)) for k, v in members.items())
    return given


def _encoded(reply: Reply, arrival: Arrival) -> bytes:
    reason = HTTPStatus(reply.status).phrase.encode()
    fields = (*reply.fields, (b"Date", b"Sat, 21 Nov 2026 10:00:00 GMT"))
    if reply.document is None:
        return answer(reply.status, b"", *fields, reason=reason, length=reply.status != HTTPStatus.NO_CONTENT)
    body = json.dumps(reply.document, ensure_ascii=False).encode()
    fields = ((b"Content-Type", b"application/json; charset=utf-8"), *fields)
    if arrival.host in CODING and b"gzip" in b",".join(arrival.request.values("accept-encoding")):
        body = gzip.compress(body, mtime=0)
        fields = ((b"Content-Encoding", b"gzip"), (b"Vary", b"Accept-Encoding"), *fields)
    if arrival.request.method == b"HEAD":
        return answer(
            reply.status, b"", *fields, (b"Content-Length", b"%d" % len(body)), reason=reason, length=False
        )
    return answer(reply.status, body, *fields, reason=reason)


def _google_error(status: int, reason: str, message: str, *fields: Field) -> Reply:
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return Reply({"error": {"code": status, "message": message, "errors": errors}}, status, fields)


def _notion_error(status: int, code: str, message: str, *fields: Field) -> Reply:
    document = {"object": "error", "status": status, "code": code, "message": message, "request_id": "r-1"}
    return Reply(document, status, fields)


RETRY: Field = (b"Retry-After", b"1")

UNAUTHORIZED: Mapping[str, Reply] = {
    SLACK: Reply({"ok": False, "error": "invalid_auth"}),
    GOOGLE: _google_error(401, "authError", "Invalid Credentials"),
    NOTION: _notion_error(401, "unauthorized", "API token is invalid."),
    GITHUB: Reply({"message": "Bad credentials", "status": "401"}, 401),
    UPLOADS: Reply({"message": "Bad credentials", "status": "401"}, 401),
    FILES: Reply({"ok": False, "error": "invalid_auth"}, 401),
    GRAPH: Reply({"error": {"code": "InvalidAuthenticationToken", "message": "no"}}, 401),
}
MISSING: Mapping[str, Reply] = {
    SLACK: Reply({"ok": False, "error": "unknown_method"}),
    GOOGLE: _google_error(404, "notFound", "Not Found"),
    NOTION: _notion_error(404, "object_not_found", "Could not find page with ID: 0."),
    GITHUB: Reply(
        {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"}, 404
    ),
    UPLOADS: Reply({"message": "Not Found"}, 404),
    FILES: Reply({"ok": False}, 404),
    GRAPH: Reply({"error": {"code": "itemNotFound", "message": "no"}}, 404),
}
TOO_MANY: Mapping[str, Reply] = {
    SLACK: Reply({"ok": False, "error": "ratelimited"}, 429, (RETRY,)),
    GOOGLE: _google_error(429, "rateLimitExceeded", "Rate Limit Exceeded", RETRY),
    NOTION: _notion_error(429, "rate_limited", "You have been rate limited.", RETRY),
    GITHUB: Reply(
        {"message": "You have exceeded a secondary rate limit."},
        429,
        (RETRY, (b"X-RateLimit-Remaining", b"0")),
    ),
}
LIMITED = frozenset(
    {
        f"POST {SLACK}/api/reactions.add",
        f"GET {GOOGLE}/calendar/v3/users/me/calendarList",
        f"POST {NOTION}/v1/search",
        f"GET {GITHUB}/search/repositories",
    }
)


def _slack_channels(given: Given) -> Reply:
    first, rest = ({"id": "C012AB3CD", "name": "general"}, {"id": "C061EG9T2", "name": "random"})
    last = {"id": "C0LAN2Q65", "name": "café"}
    channels, cursor = ([last], "") if given.get("cursor") == CURSOR else ([first, rest], CURSOR)
    document = {"ok": True, "channels": channels, "response_metadata": {"next_cursor": cursor}}
    return Reply(document, 200, ((b"X-OAuth-Scopes", b"channels:read,chat:write"),))


def _slack_message(given: Given) -> Reply:
    if given["channel"] != "C012AB3CD":
        return Reply({"ok": False, "error": "channel_not_found"})
    message = {"type": "message", "text": given["text"], "ts": "1503435956.000247"}
    return Reply({"ok": True, "channel": given["channel"], "ts": message["ts"], "message": message})


def _google_events(given: Given) -> Reply:
    items = [{"kind": "calendar#event", "id": f"event{n}", "summary": f"Event {n}"} for n in range(3)]
    if given.get("pageToken") == PAGE_TOKEN:
        return Reply({"kind": "calendar#events", "items": items[2:]})
    return Reply({"kind": "calendar#events", "items": items[:2], "nextPageToken": PAGE_TOKEN})


def _google_insert(given: Given) -> Reply:
    link = "https://www.google.com/calendar/event?eid=bmV3"
    document = {"kind": "calendar#event", "id": "new", "status": "confirmed", "htmlLink": link}
    return Reply({**document, "summary": given["summary"], "start": json.loads(given["start"])})


def _notion_users(given: Given) -> Reply:
    ids = [NEXT_USER] if given.get("start_cursor") == NEXT_USER else ["u-1", "u-2"]
    more = ids != [NEXT_USER]
    results = [{"object": "user", "id": one, "type": "person"} for one in ids]
    cursor = NEXT_USER if more else None
    return Reply({"object": "list", "results": results, "next_cursor": cursor, "has_more": more})


def _notion_page(given: Given) -> Reply:
    address = "https://www.notion.so/Tuscan-kale-59833787"
    return Reply(
        {"object": "page", "id": "59833787", "url": address, "properties": json.loads(given["properties"])}
    )


DISCOVERY = f"GET {GOOGLE}/discovery/v1/apis/calendar/v3/rest"
WITHOUT_TOKEN = frozenset({f"POST {FILES}/upload/v1/CwABAAAA", DISCOVERY})
"""Calls that services take without a token; one that comes with a token is refused."""


def _google_document(_: Given) -> Reply:
    package = importlib.resources.files("googleapiclient.discovery_cache")
    return Reply(json.loads((package / "documents" / "calendar.v3.json").read_text(encoding="utf-8")))


def _slack_upload(given: Given) -> Reply:
    address = f"https://{FILES}/upload/v1/CwABAAAA"
    return Reply({"ok": True, "file_id": f"F{given['length']}", "upload_url": address})


def _slack_uploaded(given: Given) -> Reply:
    return Reply({"ok": True, "files": json.loads(given["files"])})


def _graph_messages(given: Given) -> Reply:
    if "$skiptoken" in given:
        return Reply({"value": [{"subject": "three"}]})
    link = f"https://{GRAPH}/v1.0/me/messages?$top=2&$select=subject&$skiptoken=X%27a%2Fb"
    return Reply({"@odata.nextLink": link, "value": [{"subject": "one"}, {"subject": "two"}]})


def _github_repository(_: Given) -> Reply:
    address = "https://api.github.com/repos/octocat/Hello-World"
    names = {"id": 1296269, "name": "Hello-World", "full_name": "octocat/Hello-World"}
    templates = {
        "issues_url": f"{address}/issues{{/number}}",
        "html_url": "https://github.com/octocat/Hello-World",
    }
    return Reply({**names, **templates, "url": address}, 200, GITHUB_FIELDS)


def _github_release(_: Given) -> Reply:
    place = "/repos/octocat/Hello-World/releases/1"
    upload = f"https://{UPLOADS}{place}/assets{{?name,label}}"
    release = {"id": 1, "tag_name": "v1", "url": f"https://api.github.com{place}", "upload_url": upload}
    return Reply(release, 200, GITHUB_FIELDS)


def _github_asset(given: Given) -> Reply:
    address = "https://api.github.com/repos/octocat/Hello-World/releases/assets/7"
    return Reply({"id": 7, "name": given["name"], "url": address}, 201, GITHUB_FIELDS)


def _github_comments(_: Given) -> Reply:
    address = "https://api.github.com/repos/octocat/Hello-World/issues/comments/1"
    return Reply([{"id": 1, "body": "see https://api.github.com/user", "url": address}], 200, GITHUB_FIELDS)


def _github_issues(given: Given) -> Reply:
    page = int(given.get("page", "1"))
    start = f"https://api.github.com/repositories/1296269/issues?per_page={given.get('per_page', 30)}&page="
    link = f'<{start}2>; rel="next", <{start}2>; rel="last"' if page == 1 else f'<{start}1>; rel="prev"'
    issues = [_issue(number) for number in ((1, 2) if page == 1 else (3,))]
    return Reply(issues, 200, ((b"Link", link.encode()), *GITHUB_FIELDS))


def _issue(number: int, title: str = "Found a bug") -> dict[str, object]:
    address = f"https://api.github.com/repos/octocat/Hello-World/issues/{number}"
    web = f"https://github.com/octocat/Hello-World/issues/{number}"
    return {"id": number, "number": number, "title": title, "url": address, "html_url": web, "state": "open"}


def _github_user(_: Given) -> Reply:
    address = "https://api.github.com/users/octocat"
    user = {"login": "octocat", "id": 1, "url": address, "repos_url": f"{address}/repos", "type": "User"}
    return Reply(user, 200, (*GITHUB_FIELDS, (b"ETag", b'W/"a1b2"')))


GITHUB_FIELDS: tuple[Field, ...] = (
    (b"X-GitHub-Request-Id", b"C0FF:EE"),
    (b"X-RateLimit-Limit", b"5000"),
    (b"X-RateLimit-Remaining", b"4987"),
)

ROUTES: Mapping[str, Route] = {
    f"POST {SLACK}/api/auth.test": lambda _: Reply({"ok": True, "user": "grace", "user_id": "W12345678"}),
    f"GET {SLACK}/api/auth.test": lambda _: Reply({"ok": True, "user": "grace", "user_id": "W12345678"}),
    f"GET {SLACK}/api/conversations.list": _slack_channels,
    f"POST {SLACK}/api/conversations.list": _slack_channels,
    f"POST {SLACK}/api/chat.postMessage": _slack_message,
    f"POST {SLACK}/api/reactions.add": lambda _: Reply({"ok": True}),
    f"GET {GOOGLE}/calendar/v3/calendars/primary": lambda _: Reply(
        {"kind": "calendar#calendar", "id": "grace@example.com", "summary": "Übersicht"}
    ),
    f"GET {GOOGLE}/calendar/v3/users/me/calendarList": lambda _: Reply(
        {"kind": "calendar#calendarList", "items": [{"id": "grace@example.com", "primary": True}]}
    ),
    f"GET {GOOGLE}/calendar/v3/calendars/primary/events": _google_events,
    f"POST {GOOGLE}/calendar/v3/calendars/primary/events": _google_insert,
    f"DELETE {GOOGLE}/calendar/v3/calendars/primary/events/event0": lambda _: Reply(status=204),
    f"GET {NOTION}/v1/users/me": lambda _: Reply({"object": "user", "id": "bot-1", "name": "Relay ✓"}),
    f"GET {NOTION}/v1/users": _notion_users,
    f"POST {NOTION}/v1/pages": _notion_page,
    f"POST {NOTION}/v1/search": lambda _: Reply({"object": "list", "results": [], "has_more": False}),
    f"GET {GITHUB}/user": _github_user,
    f"GET {GITHUB}/repos/octocat/Hello-World/issues": _github_issues,
    f"POST {GITHUB}/repos/octocat/Hello-World/issues": lambda given: Reply(
        _issue(1347, given["title"]), 201, GITHUB_FIELDS
    ),
    f"PUT {GITHUB}/user/starred/octocat/Hello-World": lambda _: Reply(status=204, fields=GITHUB_FIELDS),
    f"GET {GITHUB}/repositories/1296269/issues": _github_issues,
    f"GET {GITHUB}/repos/octocat/Hello-World": _github_repository,
    f"PATCH {GITHUB}/repos/octocat/Hello-World/issues/1": lambda _: Reply(_issue(1), 200, GITHUB_FIELDS),
    f"GET {GITHUB}/repos/octocat/Hello-World/issues/1/comments": _github_comments,
    f"GET {GITHUB}/repos/octocat/Hello-World/releases/1": _github_release,
    f"POST {UPLOADS}/repos/octocat/Hello-World/releases/1/assets": _github_asset,
    f"POST {SLACK}/api/files.getUploadURLExternal": _slack_upload,
    f"GET {SLACK}/api/files.getUploadURLExternal": _slack_upload,
    f"POST {FILES}/upload/v1/CwABAAAA": lambda _: Reply({"ok": True}),
    f"POST {SLACK}/api/files.completeUploadExternal": _slack_uploaded,
    f"GET {GRAPH}/v1.0/me/messages": _graph_messages,
    DISCOVERY: _google_document,
    f"GET {GITHUB}/search/repositories": lambda _: Reply({"total_count": 0, "items": []}),
}
BATCHES: Mapping[str, Callable[[Message, batches.Single], bytes]] = {
    f"POST {GOOGLE}/batch/calendar/v3": batches.google,
    f"POST {GRAPH}/v1.0/$batch": batches.graph,
}
"""Calls that hold further ones."""
