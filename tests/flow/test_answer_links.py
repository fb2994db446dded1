"""Addresses in answers, over sockets: shipped services before a TLS upstream that plays all of their hosts."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from support import plane, raw, strict
from support.shipped import World, served
from support.upstream import Peer, Script, answer, chunk

from proxy.forwarding.limits import DataPlaneOptions

pytestmark = pytest.mark.traced

HOSTS = (
    *("api.github.com", "uploads.github.com", "codeload.github.com", "slack.com", "files.slack.com"),
    *("graph.microsoft.com", "contoso.sharepoint.com", "api.box.com", "upload.box.com", "upload.app.box.com"),
    *("www.googleapis.com", "acme.my.salesforce.com", "login.salesforce.com", "api.notion.com"),
)
TOKENS = ("github", "slack", "box", "googledrive", "notion")
JSON = (b"Content-Type", b"application/json; charset=utf-8")
BASE = "http://proxy.example"


def token(service: str) -> str:
    return f"real-token-of-{service}-0123456789"


class Links(World):
    """A proxy before the upstream, and what a client does with the addresses of an answer."""

    async def says(self, *parts: bytes) -> None:
        """From now on each request is answered so."""
        await self.upstream.fresh(self._script(*parts))

    @staticmethod
    def _script(*parts: bytes) -> Script:
        async def script(peer: Peer) -> None:
            while True:
                await peer.request()
                for part in parts:
                    await peer.send(part)

        return script

    async def call(
        self, method: str, target: str, *, key: bool = True, body: bytes | None = None, **fields: str
    ) -> strict.Message:
        given = [(name.replace("_", "-"), value) for name, value in fields.items()]
        known = self.proxy.key if key else None
        return await raw.call(self.proxy.address, method, target, key=known, fields=given, body=body)

    async def follow(self, url: str, method: str = "GET", **options: object) -> strict.Message:
        """Asks for an address of an answer, as a client does."""
        assert url.startswith(BASE + "/"), url
        await self.upstream.fresh()
        return await self.call(method, url.removeprefix(BASE), **options)  # type: ignore[arg-type]  # passed on

    def arrived_at(self) -> tuple[str | None, strict.Message]:
        """The only request that arrived, and the name that was asked for."""
        (peer,) = self.upstream.peers
        (message,) = self.upstream.seen()
        assert message.value("host") == (peer.sni or "").encode()
        return peer.sni, message


@pytest.fixture(scope="module")
def world(runner, authority, tmp_path_factory) -> Iterator[Links]:
    configs = {
        "one_drive": {"tenant_name": "contoso"},
        "salesforce": {"instance_url": "https://acme.my.salesforce.com"},
    }
    sources = {
        f"sources.{name}": {"kind": "static", "token": {"env": name.upper()}, "connection_config": config}
        for name, config in configs.items()
    }
    with served(
        runner,
        authority,
        tmp_path_factory.mktemp("links"),
        HOSTS,
        tokens={name: token(name) for name in TOKENS},
        settings={"keys.narrow": {"hash": "sha256:" + "0" * 64, "allow": ["github"]}, **sources},
        environment={name.upper(): token(name) for name in configs},
    ) as (upstream, proxy):
        yield Links(upstream, proxy)


async def test_github_pages_and_objects(world: Links) -> None:
    """Link, ``url`` and templates lead back through the proxy with the token; texts and html_url stay byte for byte."""
    document = b'[{"url": "https:\\/\\/api.github.com\\/repos\\/o\\/r", "html_url":"https://github.com/o/r", "labels_url":"https://api.github.com/repos/o/r/labels{/name}", "n": 1.0e2, "body":"see \\"url\\":\\"https://api.github.com/x\\""}]'
    link = b'<https://api.github.com/user/repos?page=2>; rel="next"'
    await world.says(answer(200, document, JSON, (b"Link", link), (b"ETag", b'"a1"')))
    told = await world.call("GET", "/github/user/repos", Accept_Encoding="gzip, br")
    assert world.upstream.seen()[0].values("accept-encoding") == [b"identity"]
    expected = document.replace(
        b"https:\\/\\/api.github.com\\/repos", b"http:\\/\\/proxy.example\\/github\\/repos"
    ).replace(b"https://api.github.com/repos/o/r/labels", BASE.encode() + b"/github/repos/o/r/labels")
    assert told.body == expected
    assert told.value("content-length") == b"%d" % len(expected)
    assert (told.value("content-type"), told.value("etag")) == (JSON[1], b'W/"a1"')
    assert told.value("link") == b'<http://proxy.example/github/user/repos?page=2>; rel="next"'
    await world.follow(json.loads(told.body)[0]["url"])
    host, request = world.arrived_at()
    assert (host, request.target) == ("api.github.com", b"/repos/o/r")
    assert request.value("authorization") == b"Bearer " + token("github").encode()


async def test_a_redirect_to_a_presigned_host(world: Links) -> None:
    """A download's redirect is followed through the proxy, with no credential at all, and nothing of ours arrives."""
    await world.says(
        answer(302, b"", (b"Location", b"https://codeload.github.com/o/r/legacy.zip/main?token=A%2Fb&x"))
    )
    told = await world.call("GET", "/github/repos/o/r/zipball")
    place = (told.value("location") or b"").decode()
    for key in (False, True):  # clients keep their credential when a redirect stays on the same origin
        assert (await world.follow(place, key=key)).status == 200
        host, request = world.arrived_at()
        assert (host, request.target) == ("codeload.github.com", b"/o/r/legacy.zip/main?token=A%2Fb&x")
        assert request.values("authorization") == []
        assert world.proxy.key.encode() not in bytes(world.upstream.peers[0].received)
        assert token("github").encode() not in bytes(world.upstream.peers[0].received)


async def test_slack_uploads_and_private_files(world: Links) -> None:
    """``upload_url`` needs no key and takes none along; ``url_private`` needs the key and gets the token."""
    files = {
        "url_private": "https://files.slack.com/files-pri/T1-F1/a.png",
        "permalink": "https://acme.slack.com/x",
    }
    body = {"ok": True, "upload_url": "https://files.slack.com/upload/v1/CwABAAAA", "files": [files]}
    await world.says(answer(200, json.dumps(body).encode(), JSON))
    told = json.loads((await world.call("POST", "/slack/files.getUploadURLExternal", body=b"")).body)
    assert told["files"][0]["permalink"] == files["permalink"]
    assert (
        await world.follow(told["upload_url"], "POST", body=b"bytes", Content_Type="image/png")
    ).status == 200
    host, request = world.arrived_at()
    assert (host, request.target, request.body) == ("files.slack.com", b"/upload/v1/CwABAAAA", b"bytes")
    assert request.values("authorization") == []
    assert (await world.follow(told["files"][0]["url_private"], key=False)).status == 401
    assert world.upstream.seen() == []
    await world.follow(told["files"][0]["url_private"])
    host, request = world.arrived_at()
    assert (host, request.target) == ("files.slack.com", b"/files-pri/T1-F1/a.png")
    assert request.value("authorization") == b"Bearer " + token("slack").encode()


async def test_graph_pages_and_upload_sessions(world: Links) -> None:
    """``@odata.nextLink`` keeps its query byte for byte; a presigned ``uploadUrl`` is written to without a token."""
    next_link = "https://graph.microsoft.com/v1.0/me/drive/root/children?$top=2&$skiptoken=X%27a&f=b"
    upload = "https://contoso.sharepoint.com/_api/v2.0/drives/b!x/items/1/uploadSession?guid='a'&tempauth=e.y"
    text = json.dumps({"@odata.nextLink": next_link, "uploadUrl": upload, "value": []}).replace(
        "&", "\\u0026"
    )
    await world.says(answer(200, text.encode(), JSON))
    told = json.loads((await world.call("GET", "/one_drive/v1.0/me/drive/root/children?$top=2")).body)
    await world.follow(told["@odata.nextLink"])
    host, request = world.arrived_at()
    assert f"https://{host}{request.target.decode()}" == next_link
    assert request.value("authorization") == b"Bearer " + token("one_drive").encode()
    piece = {"Content_Range": "bytes 0-4/5"}
    await world.follow(told["uploadUrl"], "PUT", body=b"12345", **piece)
    host, request = world.arrived_at()
    assert f"https://{host}{request.target.decode()}" == upload
    assert request.values("authorization") == []
    assert request.value("content-range") == b"bytes 0-4/5"


async def test_box_upload_sessions(world: Links) -> None:
    """All of ``session_endpoints`` lead to the host that they name, with the token."""
    parts = "https://upload.app.box.com/api/2.0/files/upload_sessions/F9"
    body = {
        "id": "F9",
        "session_endpoints": {"upload_part": parts, "commit": parts + "/commit"},
        "other": {"upload_part": parts},
    }
    await world.says(answer(201, json.dumps(body).encode(), JSON))
    told = json.loads((await world.call("POST", "/box/2.0/files/upload_sessions", body=b"{}")).body)
    assert told["other"] == body["other"]
    await world.follow(told["session_endpoints"]["upload_part"], "PUT", body=b"part")
    host, request = world.arrived_at()
    assert f"https://{host}{request.target.decode()}" == parts
    assert request.value("authorization") == b"Bearer " + token("box").encode()


async def test_google_documents_and_resumable_uploads(world: Links) -> None:
    """A discovery document's roots and a resumable upload's Location; other paths are not asked for plain bodies."""
    body = {"rootUrl": "https://www.googleapis.com/", "baseUrl": "https://www.googleapis.com/drive/v3/"}
    await world.says(answer(200, json.dumps(body).encode(), JSON))
    told = json.loads((await world.call("GET", "/googledrive/discovery/v1/apis/drive/v3/rest")).body)
    assert told["baseUrl"] == BASE + "/googledrive/drive/v3/"
    await world.follow(told["rootUrl"] + "upload/drive/v3/files?uploadType=resumable", "POST", body=b"")
    assert world.arrived_at()[1].target == b"/upload/drive/v3/files?uploadType=resumable"
    session = b"https://www.googleapis.com/upload/drive/v3/files?uploadType=resumable&upload_id=A-b_c"
    await world.says(answer(200, b'{"rootUrl":"https://www.googleapis.com/"}', JSON, (b"Location", session)))
    told_ = await world.call("POST", "/googledrive/upload/drive/v3/files", body=b"{}", Accept_Encoding="gzip")
    assert world.upstream.seen()[0].values("accept-encoding") == [b"gzip"]
    assert told_.body == b'{"rootUrl":"https://www.googleapis.com/"}'
    await world.follow((told_.value("location") or b"").decode(), "PUT", body=b"x")
    assert world.arrived_at()[1].target == session.removeprefix(b"https://www.googleapis.com")


async def test_salesforce_identity(world: Links) -> None:
    """``identity`` leads to the login host and ``urls.*`` to the instance, both with the token."""
    body = {
        "identity": "https://login.salesforce.com/id/00D/005",
        "urls": {"rest": "https://acme.my.salesforce.com/services/data/v{version}/"},
        "nextRecordsUrl": "/services/data/v59.0/query/01g-2000",
    }
    await world.says(answer(200, json.dumps(body).encode(), JSON))
    told = json.loads((await world.call("GET", "/salesforce/services/data/v59.0/")).body)
    assert told["nextRecordsUrl"] == body["nextRecordsUrl"]
    assert told["urls"]["rest"] == BASE + "/salesforce/services/data/v{version}/"
    await world.follow(told["identity"])
    host, request = world.arrived_at()
    assert (host, request.target) == ("login.salesforce.com", b"/id/00D/005")


ADDRESS = b'{"url":"https://api.github.com/a"}'
MAPPED = ADDRESS.replace(b"https://api.github.com", BASE.encode() + b"/github")


async def test_a_body_in_pieces(world: Links) -> None:
    """A chunked body, cut inside the address, comes out chunked and mapped; what precedes it is not held back."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    filler, rest = b'[{"a":"' + b"x" * 5000 + b'"},', ADDRESS + b"]"
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head + chunk(filler + rest[:20]))
        await seen.wait()
        for at in range(20, len(rest), 3):
            await peer.send(chunk(rest[at : at + 3]))
        await peer.send(b"0\r\n\r\n")

    await world.upstream.fresh(script)
    async with raw.calling(world.proxy.address) as caller:
        await caller.send(raw.request("GET", "/github/a", key=world.proxy.key))
        while b"x" * 5000 + b'"},' not in bytes(caller.received):
            assert await caller.more()
        seen.set()
        told = await caller.answer()
    assert told.body == filler + MAPPED + b"]"
    assert told.framing == "chunked"


async def test_a_large_body_with_a_length(world: Links) -> None:
    """A body that does not come at once loses its length, which nobody knows any more; HTTP/1.0 gets it up to the end."""
    body = b"[" + b",".join([ADDRESS] * 40_000) + b"]"
    await world.says(answer(200, body, JSON))
    told = await world.call("GET", "/github/a")
    assert told.body == b"[" + b",".join([MAPPED] * 40_000) + b"]"
    assert (told.framing, told.value("content-length")) == ("chunked", None)
    async with raw.calling(world.proxy.address) as caller:
        await caller.send(
            b"GET /github/a HTTP/1.0\r\nHost: proxy.example\r\nAuthorization: Bearer "
            + world.proxy.key.encode()
            + b"\r\n\r\n"
        )
        ending = await caller.ending()
    assert ending.how == "eof"
    assert ending.data.endswith(told.body)


@pytest.mark.parametrize(
    ("status", "body", "fields"),
    [
        (200, gzip.compress(ADDRESS, mtime=0), [JSON, (b"Content-Encoding", b"gzip")]),
        (206, ADDRESS, [JSON, (b"Content-Range", b"bytes 0-33/99")]),
        (200, b"data: " + ADDRESS + b"\n\n", [(b"Content-Type", b"text/event-stream")]),
        (200, ADDRESS, [(b"Content-Type", b"text/plain")]),
        (200, ADDRESS, []),
        (200, b")]}'" + ADDRESS, [JSON]),
    ],
)
async def test_bodies_that_pass(world: Links, status: int, body: bytes, fields: list) -> None:
    """A coding, a range, an event stream, a text, nothing that says JSON: the bytes are the service's."""
    await world.says(answer(status, body, *fields, (b"ETag", b'W/"a"')))
    told = await world.call("GET", "/github/a")
    assert (told.status, told.body) == (status, body)


async def test_head_tells_what_get_would(world: Links) -> None:
    """HEAD of a JSON resource: no length, which would be that of another body, and the same weak ETag."""
    await world.says(answer(200, b"", JSON, (b"Content-Length", b"34"), (b"ETag", b'"a"'), length=False))
    told = await world.call("HEAD", "/github/a")
    assert (told.value("content-length"), told.value("etag")) == (None, b'W/"a"')


async def test_services_without_links_pass(world: Links) -> None:
    """A service whose file declares none keeps body, length, ETag and the caller's codings."""
    body = b'{"url":"https://api.notion.com/v1/x"}'
    await world.says(answer(200, body, JSON, (b"ETag", b'"a"')))
    told = await world.call("GET", "/notion/v1/users/me", Accept_Encoding="gzip")
    assert (told.body, told.value("etag")) == (body, b'"a"')
    assert world.upstream.seen()[0].values("accept-encoding") == [b"gzip"]


async def test_capabilities_are_refused_as_a_whole(world: Links) -> None:
    """A changed address, made-up ones and other methods: 403 or 405 in our words, and nothing leaves the proxy."""
    await world.says(answer(302, b"", (b"Location", b"https://codeload.github.com/o/r/zip?t=1")))
    place = ((await world.call("GET", "/github/repos/o/r/zipball")).value("location") or b"").decode()
    good = urlsplit(place).path + "?t=1"
    await world.upstream.fresh()
    for bad in (
        good.replace("/o/r", "/o/s"),
        good.replace("t=1", "t=2"),
        good.replace("codeload", "evil"),
        good + "&",
    ):
        told = await world.call("GET", bad, key=False)
        assert (told.status, raw.document(told)["code"]) == (403, "not_permitted")
    for made_up in ("/github/~~/codeload.github.com/x", "/github/~~1.2.3/codeload.github.com/x"):
        assert (await world.call("GET", made_up)).status == 403
    assert (await world.call("PATCH", good, key=False)).status == 405
    assert world.upstream.seen() == []


async def test_the_log_names_no_capability(world: Links) -> None:
    """What makes such an address good for everybody who reads it is not written to the log."""
    await world.says(answer(302, b"", (b"Location", b"https://codeload.github.com/o/r/zip")))
    place = ((await world.call("GET", "/github/repos/o/r/zipball")).value("location") or b"").decode()
    await world.follow(place, key=False)
    secret = place.split("/~~")[1].split("/")[0]
    paths = [event.get("path", "") for event in world.proxy.events()]
    while not any("/~~..." in path for path in paths):
        paths = [event.get("path", "") for event in world.proxy.events()]
    assert secret not in world.proxy.log


@pytest.mark.parametrize(
    ("public_url", "fields", "expected"),
    [
        (b"", b"Host: h.example:81\r\n", b"http://h.example:81/svc/next"),
        (b"https://public.example", b"Host: h.example:81\r\n", b"https://public.example/svc/next"),
    ],
)
async def test_what_addresses_begin_with(public_url: bytes, fields: bytes, expected: bytes) -> None:
    """Scheme and Host of the request, or ``data.public_url``, also for a service with one host of its own and a port."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            here = b"http://127.0.0.1:%d/next" % peer.transport.get_extra_info("sockname")[1]
            await peer.send(answer(302, b"", (b"Location", here), (b"Content-Location", b"/next")))

    options = DataPlaneOptions(public_url=public_url)
    async with plane.scene(script, options=options) as on, on.calling() as caller:
        for _ in range(2):  # the second one on a connection to the service that is open: the short way
            request = b"GET /svc/x HTTP/1.1\r\n" + fields + b"Authorization: Bearer " + plane.KEY.encode()
            await caller.send(request + b"\r\n\r\n")
            told = await caller.answer()
            assert (told.value("location"), told.value("content-location")) == (expected, expected)
