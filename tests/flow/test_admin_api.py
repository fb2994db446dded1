"""The admin API of a running server: who may ask what, what is refused by name, what may be repeated."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from support.admin import Api, Site
from support.browser import Browser
from support.canaries import everything_under
from support.commands import environment, heed_interrupts
from support.serving import Serve, get

from proxy import keys
from proxy.admintokens import SCOPES
from proxy.operations.table import OPERATIONS

pytestmark = pytest.mark.traced

CANARY = "canary-access-token-Zx81"
KEY_BODY = {"name": "made", "allow": ["slack"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with Serve(folder) as server:
        yield Site(server, folder)


@pytest.fixture(scope="module")
def admin(site: Site) -> Api:
    return site.api("admin")


@pytest.fixture(scope="module")
def by_scope(site: Site) -> dict[str, Api]:
    return {scope: site.api(scope) for scope in SCOPES if scope != "admin"}


def example(path: str) -> str:
    return path.format(
        service="slack",
        connection="slack@none",
        registration="none",
        key="none",
        token="none",
        user="none",
        flow="0" * 24,
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_refused_without_a_token(site: Site, name: str) -> None:
    """No operation answers anybody: no token, a made-up one, a proxy key and basic credentials get 401 (R93)."""
    operation = OPERATIONS[name]
    nobody = Api(site.address)
    _, key = keys.generate()
    for headers in (
        {},
        {"Authorization": f"Bearer cpa_{'0' * 8}_{'0' * 49}"},
        {"Authorization": f"Bearer {key.reveal()}"},
        {"Authorization": "Basic YTpi"},
        {"Cookie": "connector-proxy-session=made-up"},
    ):
        refused = nobody(operation.method, example(operation.path), headers=headers)
        assert (refused.status, refused.code) == (401, "invalid_token")
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert refused.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", OPERATIONS)
def test_scopes_allow_what_they_say_and_nothing_else(by_scope: dict[str, Api], name: str) -> None:
    """A token may do exactly what one of its scopes is named for, whatever the request looks like (R93)."""
    operation = OPERATIONS[name]
    for scope, api in by_scope.items():
        answer = api(operation.method, example(operation.path), raw=b"{" if operation.body else None)
        if scope in operation.scopes:
            assert answer.status != 403, scope
        else:
            assert (answer.status, answer.code) == (403, "insufficient_scope"), scope


def test_a_service_key_takes_the_scope_admin(by_scope: dict[str, Api], admin: Api) -> None:
    """Who may make keys for callers cannot make itself one that reveals tokens (R93)."""
    body = {"name": "reveals", "allow": ["slack"], "kind": "service"}
    refused = by_scope["keys:write"]("POST", "/keys", body)
    assert (refused.status, refused.fields) == (403, {"kind"})
    assert admin("POST", "/keys", body).status == 201


def test_a_key_is_made_shown_once_and_revoked(admin: Api) -> None:
    """The answer to its creation is the only place where a key appears; revoked it stays listed (R156)."""
    made = admin("POST", "/keys", {**KEY_BODY, "name": "once", "expires": "30d"})
    assert made.status == 201
    place = made.headers["Location"].removeprefix("/api/v1")
    shown = admin("GET", place)
    assert shown.body == {name: value for name, value in made.body.items() if name != "key"}
    assert made.body["key"] not in json.dumps(admin("GET", "/keys").body)
    assert admin("POST", f"{place}/revoke").body["revoked"] is True
    assert admin("POST", f"{place}/revoke").body["revoked"] is False
    assert admin("GET", place).body["state"] == "revoked"


def test_tokens_go_in_and_never_come_out(admin: Api, site: Site) -> None:
    """An imported token is in no answer, no audit row and no file in clear; the actor in the audit is the token's name."""
    body = {"service": "slack", "name": "work", "access_token": CANARY, "refresh_token": CANARY + "-refresh"}
    made = admin("POST", "/connections", body)
    assert (made.status, made.headers["Location"]) == (201, "/api/v1/connections/slack@work")
    shown = admin("GET", "/connections/slack@work")
    assert shown.body["state"] == "active"
    rows = admin("GET", "/audit?limit=1000").body["items"]
    saved = next(row for row in rows if row["action"] == "connection.save")
    assert (saved["actor"], saved["subject"]) == ("token:admin", "slack@work")
    for answer in (made, shown, rows):
        assert CANARY not in repr(answer)
    assert CANARY.encode() not in everything_under(site.server.data)


def test_connections_are_frozen_one_by_one_and_all_at_once(admin: Api) -> None:
    """One click stops every token, and thaws only what an operator stopped; a wrong state is a conflict."""
    for name in ("a", "b"):
        admin("POST", "/connections", {"service": "notion", "name": name, "access_token": "secret_x"})
    assert admin("POST", "/connections/notion@b/default").body["done"] == "default"
    assert admin("POST", "/connections/notion@a/freeze").status == 200
    assert admin("POST", "/all-connections/freeze").body["count"] >= 1
    states = {one["state"] for one in admin("GET", "/connections").body["items"]}
    assert states == {"frozen"}
    assert admin("POST", "/all-connections/thaw").body["count"] >= 2
    assert admin("GET", "/connections?state=frozen").body["items"] == []
    assert admin("POST", "/connections/notion/freeze").body["name"] == "b"
    assert admin("DELETE", "/connections/notion@b").body["done"] == "remove"
    assert (missing := admin("GET", "/connections/notion@b")).status == 404
    assert missing.code == "not_found"


def test_secrets_of_registrations_are_write_only(admin: Api, site: Site) -> None:
    """An app's secret is told by nobody afterwards, only that there is one (R164)."""
    body = {"client_id": "id-1", "client_secret": "canary-app-secret"}
    saved = admin("PUT", "/registrations/slack", body)
    assert saved.body["has_secret"] is True
    listed = admin("GET", "/registrations")
    assert saved.body in listed.body["items"]
    assert "canary-app-secret" not in repr((saved, listed))
    assert b"canary-app-secret" not in everything_under(site.server.data)
    assert admin("DELETE", "/registrations/slack").status == 200
    assert admin("DELETE", "/registrations/slack").code == "not_found"


def test_a_flow_is_begun_and_followed(admin: Api) -> None:
    """A program gets the link for a person's browser, its code, and how far it is; what is missing first is told."""
    first = admin("POST", "/flows", {"service": "github", "name": "work"})
    assert (first.status, first.code) == (422, "not_accepted")
    admin("PUT", "/registrations/github", {"client_id": "id", "client_secret": "secret"})
    flow = admin("POST", "/flows", {"service": "github", "name": "work", "scopes": ["repo"]})
    assert flow.status == 201
    assert "/connect/github?link=" in flow.body["link"]
    assert admin("GET", f"/flows/{flow.body['id']}").body == {
        "id": flow.body["id"],
        "stage": "begun",
        "outcome": None,
    }
    assert admin("GET", f"/flows/{'0' * 24}").code == "not_found"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"name": "x"}, {"allow"}),
        ({"name": "-", "allow": ["slack"], "alow": 1}, {"name", "alow"}),
        ({"name": "x\n", "allow": "slack"}, {"name", "allow"}),
        ({"name": "x", "allow": [1, "slack"]}, {"allow[0]"}),
        ({"name": True, "allow": [], "kind": "admin"}, {"name", "allow", "kind"}),
        ([], {"body"}),
    ],
)
def test_what_does_not_fit_is_refused_by_field(admin: Api, body: object, fields: set[str]) -> None:
    """Every field that is missing, unknown or of a wrong form is named, all at once (400)."""
    refused = admin("POST", "/keys", body)
    assert (refused.status, refused.code, refused.fields) == (400, "invalid_request", fields)


def test_what_fits_and_makes_no_sense_is_told_apart(admin: Api) -> None:
    """A permit for a service that is not there is 422 with its field; a name that is taken is 409."""
    wrong = admin("POST", "/keys", {"name": "typo", "allow": ["slakc"], "expires": "1970-01-01T00:00:00Z"})
    assert (wrong.status, wrong.fields) == (422, {"allow", "expires"})
    assert "slack" in wrong.body["detail"]
    assert admin("POST", "/keys", {**KEY_BODY, "name": "taken"}).status == 201
    taken = admin("POST", "/keys", {**KEY_BODY, "name": "taken"})
    assert (taken.status, taken.code) == (409, "conflict")


@pytest.mark.parametrize(
    ("raw", "headers", "expected"),
    [
        (b"{", {}, 400),
        (b'{"name":"a","name":"b","allow":["slack"]}', {}, 400),
        (b'{"name":NaN}', {}, 400),
        (b'{"name":"\\ud800","allow":["slack"]}', {}, 400),
        (b"\xff", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"x":' + b"9" * 5000 + b"}", {}, 400),
        (b" " * 262_145, {}, 413),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/json; charset=utf-16"}, 415),
        (b"{}", {"Content-Encoding": "gzip"}, 415),
    ],
    ids=range(11),
)
def test_bodies_that_are_none(admin: Api, raw: bytes, headers: dict[str, str], expected: int) -> None:
    """Malformed, oversized, deep, coded or foreign bodies have their status, and never 500."""
    assert admin("POST", "/keys", raw=raw, headers=headers).status == expected


def test_queries_and_methods(admin: Api) -> None:
    """Unknown, repeated and malformed parameters are named; other methods get 405 with Allow; other pages 404."""
    refused = admin("GET", "/keys?limit=0&limits=2&state=a&state=b")
    assert (refused.status, refused.fields) == (400, {"query.limit", "query.limits", "query.state"})
    assert admin("POST", "/keys/abc/revoke", {}).fields == {"body"}
    wrong = admin("PATCH", "/keys")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert wrong.code == "method_not_allowed"
    assert admin("GET", "/nothing").code == "not_found"
    assert admin("GET", "/keys", headers={"Host": "evil.example"}).status == 421


@pytest.mark.usefixtures("by_scope")
def test_lists_come_in_pages(admin: Api) -> None:
    """Following ``next`` gives everything once, also what shares a moment; a cursor from elsewhere is refused."""
    for number in range(5):
        admin("POST", "/keys", {**KEY_BODY, "name": f"page-{number}"})
    for path in ("/keys", "/audit", "/services", "/tokens"):
        whole = admin("GET", f"{path}?limit=1000").body["items"]
        found, cursor = [], ""
        while True:
            page = admin("GET", f"{path}?limit=3{cursor}").body
            assert len(page["items"]) <= 3
            found += page["items"]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert found == whole
        assert len(whole) > 3
        for wrong in ("YWJj", "WzFd", "W10", "WyJ4Il0", "bnVsbA"):
            fits = (path, wrong) == ("/services", "WyJ4Il0")  # one text, as its cursors have
            assert admin("GET", f"{path}?cursor={wrong}").status == (200 if fits else 422)
        assert admin("GET", f"{path}?cursor=%00").status == 400


def test_a_creation_may_be_repeated(admin: Api, site: Site) -> None:
    """The same key and body give the same answer, the once-shown key too, which is nowhere in clear on disk."""
    headers = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    body = {**KEY_BODY, "name": "again"}
    first = admin("POST", "/keys", body, headers=headers)
    second = admin("POST", "/keys", dict(reversed(body.items())), headers=headers)
    assert (first.status, second.status) == (201, 201)
    assert second.body == first.body
    assert ("Idempotency-Replayed" in first.headers, second.headers["Idempotency-Replayed"]) == (
        False,
        "true",
    )
    other = admin("POST", "/keys", {**body, "name": "other"}, headers=headers)
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    elsewhere = admin("POST", "/tokens", {"name": "other", "scopes": ["read"]}, headers=headers)
    assert elsewhere.code == "idempotency_key_reused"
    assert first.body["key"].encode() not in everything_under(site.server.data)
    bare = admin("POST", "/keys", body, headers={"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"})
    assert bare.body == first.body
    assert sum(one["name"] == "again" for one in admin("GET", "/keys").body["items"]) == 1


def test_another_asker_does_not_get_the_answer(admin: Api, site: Site) -> None:
    """An idempotency key belongs to who used it: with another token it is a new creation."""
    headers, body = {"Idempotency-Key": "shared"}, {**KEY_BODY, "name": "mine"}
    assert admin("POST", "/keys", body, headers=headers).status == 201
    other = admin.having(site.token("second", "keys:write"))
    assert other("POST", "/keys", body, headers=headers).status == 409


def test_a_refused_creation_frees_its_key(admin: Api) -> None:
    """What created nothing may be corrected under the same idempotency key; malformed ones are named."""
    headers = {"Idempotency-Key": "freed"}
    assert admin("POST", "/keys", {"name": "freed", "allow": ["slakc"]}, headers=headers).status == 422
    assert admin("POST", "/keys", {"name": "freed", "allow": ["slack"]}, headers=headers).status == 201
    for wrong in ('""', '"a', "a b", "x" * 256, '"é"'.encode().decode("latin-1")):
        refused = admin("POST", "/keys", KEY_BODY, headers={"Idempotency-Key": wrong})
        assert refused.fields == {"Idempotency-Key"}, wrong


def test_repetitions_at_once_create_once(admin: Api) -> None:
    """Of eight same requests at the same time one creates; the others get its answer, or 409 with Retry-After."""
    body = {**KEY_BODY, "name": "at-once"}
    with ThreadPoolExecutor(8) as pool:
        answers = [
            pool.submit(admin, "POST", "/keys", body, headers={"Idempotency-Key": "at-once"})
            for _ in range(8)
        ]
        found = [one.result() for one in answers]
    assert len({one.body["key"] for one in found if one.status == 201}) == 1
    late = [one for one in found if one.status != 201]
    assert all(one.code == "idempotency_in_progress" and one.headers["Retry-After"] for one in late)


def test_a_revoked_token_is_refused_at_once(site: Site, admin: Api) -> None:
    """Revoking counts for the very next request; last use is told; names are free again afterwards."""
    made = admin("POST", "/tokens", {"name": "short", "scopes": ["read"]})
    short = admin.having(made.body["token"])
    assert short("GET", "/health").body["status"] == "ready"
    listed = {one["name"]: one for one in admin("GET", "/tokens").body["items"]}
    assert listed["short"]["last_used_at"] is not None
    assert made.body["token"] not in json.dumps(listed)
    site.run("tokens", "revoke", "short")
    assert short("GET", "/health").code == "invalid_token"
    assert admin("POST", "/tokens", {"name": "short", "scopes": ["read"]}).status == 201
    assert made.body["token"].encode() not in everything_under(site.server.data)


async def test_a_signed_in_browser_may_ask_with_its_pages_token(site: Site) -> None:
    """A session reads by its cookie alone; changes take the page's token as well, and no other site's request counts (R93)."""
    text = (site.server.data / "first-run").read_text()
    password = text.split("dashboard, where accounts are connected and keys made:")[1].split()[0]
    origin = f"http://localhost:{site.address[1]}"
    async with Browser() as browser:
        page = await browser.open(f"{origin}/sign-in")
        page = await browser.submit(page, password=password)
        page = await browser.open(f"{origin}/keys/new")
        token = page.form.fields["token"]
        body = {"name": "by-browser", "allow": ["slack"]}

        async def ask(method: str, **headers: str) -> int:
            async with browser.session.request(
                method, f"{origin}/api/v1/keys", headers=headers, json=body if method == "POST" else None
            ) as answer:
                return answer.status

        assert await ask("GET") == 200
        assert await ask("POST") == 403
        assert await ask("POST", **{"X-CSRF-Token": token[:-1] + "!"}) == 403
        assert await ask("GET", **{"Sec-Fetch-Site": "cross-site"}) == 403
        assert await ask("GET", Authorization="Bearer wrong") == 401
        assert await ask("POST", **{"X-CSRF-Token": token}) == 201
    async with Browser() as stranger, stranger.session.get(f"{origin}/api/v1/keys") as refused:
        assert refused.status == 401


def test_one_click_revokes_every_key(site: Site, admin: Api) -> None:
    """The data plane refuses every key of the vault once the answer is there."""
    key = admin("POST", "/keys", {**KEY_BODY, "name": "stopped"}).body["key"]
    assert get(site.server.address, "/slack/api/auth.test", key)[0] != 401
    assert admin("POST", "/all-keys/revoke").body["revoked"] > 0
    assert get(site.server.address, "/slack/api/auth.test", key)[0] == 401


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)], ids=["interrupted", "hung up"]
)
def test_the_command_line_shows_requests_of_the_server_here(
    site: Site, admin: Api, number: signal.Signals, code: int
) -> None:
    """``events`` prints a call while it runs, asks with a token of its own, and revokes that however it is ended."""
    program = (sys.executable, "-m", "proxy", "events", "--json", "--data-dir", str(site.server.data))
    with (
        subprocess.Popen(
            program,
            stdout=subprocess.PIPE,
            cwd=site.folder,
            env=environment(site.folder),
            text=True,
            preexec_fn=heed_interrupts,  # noqa: PLW1509  # it only resets a signal
        ) as watching,
        ThreadPoolExecutor(1) as reading,
    ):
        assert watching.stdout is not None
        line = reading.submit(watching.stdout.readline)
        deadline = time.monotonic() + 60.0
        while not line.done() and time.monotonic() < deadline:
            assert get(site.server.address, "/slack/api/auth.test?q=canary-query")[0] == 401
            wait([line], timeout=0.2)
        watching.send_signal(number)
        assert watching.wait(60.0) == code
    told = json.loads(line.result())
    assert (told["status"], told["error"], told["path"]) == (401, "invalid_key", "/slack/api/auth.test")
    made = [one for one in admin("GET", "/tokens").body["items"] if one["name"].startswith("events-")]
    assert {(one["state"], *one["scopes"]) for one in made} == {("revoked", "read")}
