"""What a service tells everybody takes no key; all else does, whatever it looks like."""

from collections.abc import Iterator

import pytest
from support.lab import HOST, Lab
from support.proxy import TOKEN, service_file

OPEN = """
[[hosts]]
name = "open"
origin = "https://{host}"
token = "none"

[[rules]]
methods = ["GET"]
path = "/discovery/**"
host = "open"

[[rules]]
methods = ["POST"]
path = "/longpoll"
host = "open"

[[public]]
path = "/discovery/**"

[[public]]
path = "/longpoll"

[[public]]
path = "/private"
"""


@pytest.fixture(scope="module")
def opened(runner, authority, tmp_path_factory) -> Iterator[Lab]:
    """A proxy with a service that has paths for everybody."""
    services = {"opened": service_file(f"https://{HOST}") + OPEN.replace("{host}", HOST)}
    lab = Lab(authority, tmp_path_factory.mktemp("opened"), services=services)
    runner.run(lab.start())
    with lab.proxy:
        yield lab
    runner.run(lab.stop())


async def answered(lab: Lab, line: str, *fields: bytes, body: bytes = b"") -> int:
    """The status of one request."""
    await lab.fresh()
    head = [line.encode() + b" HTTP/1.1", b"Host: a", *fields]
    if body:
        head.append(b"Content-Length: %d" % len(body))
    async with lab.calling() as caller:
        await caller.send(b"\r\n".join([*head, b"", b""]) + body)
        return (await caller.answer()).status


async def test_without_a_key_and_without_a_token(opened: Lab) -> None:
    """Such a path is sent on for a caller that has no key, with no token, and no account is needed (R40)."""
    assert await answered(opened, "GET /opened/discovery/v1/apis?x=1") == 200
    (request,) = opened.upstream.seen()
    assert request.target == b"/discovery/v1/apis?x=1"
    assert request.values("authorization") == []
    assert await answered(opened, "POST /opened/longpoll", body=b'{"cursor":"c"}') == 200
    (request,) = opened.upstream.seen()
    assert request.body == b'{"cursor":"c"}'
    assert TOKEN.encode() not in b"".join(bytes(peer.received) for peer in opened.upstream.peers)


async def test_with_a_key_it_works_too(opened: Lab) -> None:
    """A good key is taken there like everywhere, and goes no further."""
    bearer = b"Authorization: Bearer " + opened.proxy.key.encode()
    assert await answered(opened, "GET /opened/discovery/v1/apis", bearer) == 200
    (request,) = opened.upstream.seen()
    assert request.values("authorization") == []


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("GET /opened/other", ()),
        ("GET /opened/discovery", ()),
        ("GET /opened/private", ()),  # declared, but its host wants the token
        ("POST /opened/discovery/v1/apis", ()),  # no rule leads it to the host without one
        ("GET /opened/~open/other", ()),
        ("GET /opened/discovery/v1/../../other", ()),
        ("GET /opened/discovery/%2e%2e/other", ()),
        ("GET /other/discovery/v1/apis", ()),
        ("GET /opened/discovery/v1/apis", (b"Authorization: Bearer cpk_no",)),
        ("GET /opened/discovery/v1/apis", (b"X-Api-Key: no",)),
        ("GET /opened/discovery/v1/apis", (b"X-HTTP-Method-Override: DELETE",)),
        ("GET /opened/discovery/v1/apis", (b"Origin: https://evil.example", b"Sec-Fetch-Site: cross-site")),
        ("OPTIONS /opened/discovery/v1/apis", (b"Origin: https://evil.example",)),
    ],
)
async def test_all_else_needs_a_key(opened: Lab, line: str, fields: tuple[bytes, ...]) -> None:
    """Any other path, method, host, a wrong key, a page of another site: refused, and nothing is sent (R84, R85)."""
    assert await answered(opened, line, *fields) in {400, 401}
    assert opened.upstream.seen() == []
