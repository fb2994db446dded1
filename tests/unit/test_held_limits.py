"""The operator's limit on bodies that are held whole, which tell no length before they have come (R23)."""

from typing import NamedTuple

import pytest
from support import nested, raw
from support.plane import KEY, Scene, code, scene

from proxy.catalog.model import Catalog, KeyPlace
from proxy.catalog.patterns import PathPattern
from proxy.forwarding.limits import DataPlaneOptions

LIMIT = 1000
FORM = "application/x-www-form-urlencoded"
OUTLOOK = nested.CATALOG.services["outlook"]
KEY_BYTES = KEY.encode()
SOAP = (
    b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Header><SessionHeader>'
    b"<sessionId>%b</sessionId></SessionHeader></e:Header><e:Body><query/></e:Body></e:Envelope>"
)
FILES = b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n%b\r\n--b--\r\n'


class Held(NamedTuple):
    """A request whose body is held. ``keyed``: its head has the key; else the body has it. ``filling``: its end."""

    path: str
    media: str
    body: bytes
    keyed: bool = True
    filling: bytes = b" "


HELD = {
    "form": Held("/svc/form", FORM, b"a=1&b=", filling=b"x"),
    "form of a stranger": Held("/svc/form", FORM, b"token=%b&b=" % KEY_BYTES, keyed=False, filling=b"x"),
    "SOAP": Held("/svc/soap", "text/xml", SOAP % KEY_BYTES),
    "SOAP of a stranger": Held("/svc/soap", "text/xml", SOAP % KEY_BYTES, keyed=False),
    "files": Held("/svc/form", "multipart/form-data; boundary=b", FILES % b"x"),
    "files of a stranger": Held(
        "/svc/form", "multipart/form-data; boundary=b", FILES % KEY_BYTES, keyed=False
    ),
    "addresses in JSON": Held("/svc/v1.0/groups/1/members/$ref", "application/json", b'{"@odata.id":"/x"}'),
    "batch": Held("/svc/v1.0/$batch", "application/json", nested.objects("/me")),
}


def put_service(on: Scene) -> None:
    """The service's forms, SOAP, addresses in JSON and batches are all held."""
    places = (
        KeyPlace("form", "token", (PathPattern("/form"),)),
        KeyPlace("soap", "sessionId", (PathPattern("/soap"),), replace=True),
    )
    service = on.service(
        "svc",
        key_places=places,
        links_back=OUTLOOK.links_back,
        batch=OUTLOOK.batch,
        batch_paths=OUTLOOK.batch_paths,
    )
    on.put(catalog=Catalog({"svc": service}))


def in_chunks(held: Held, size: int) -> bytes:
    """The whole request, with a body of that size in chunks of 100 bytes."""
    fields = [("Content-Type", held.media), ("Transfer-Encoding", "chunked")]
    head = raw.request("POST", held.path, key=KEY if held.keyed else None, fields=fields)
    body = held.body + held.filling * (size - len(held.body))
    pieces = (body[at : at + 100] for at in range(0, size, 100))
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("name", HELD)
async def test_the_limit_counts_for_a_chunked_body_that_is_held(name: str) -> None:
    """A form, SOAP, JSON with addresses, a batch: as long as the limit each passes, a byte longer none leaves (R23)."""
    async with scene(options=DataPlaneOptions(body_bytes=LIMIT)) as on:
        put_service(on)
        async with on.calling() as caller:
            await caller.send(in_chunks(HELD[name], LIMIT))
            assert (await caller.answer(b"POST")).status == 200
        async with on.calling() as caller:
            await caller.send(in_chunks(HELD[name], LIMIT + 1))
            got = await caller.answer(b"POST")
        assert (got.status, code(got)) == (413, "body_too_large")
        assert b"1000 bytes" in got.body
        assert len(on.upstream.seen()) == 1


async def test_files_behind_a_held_beginning_count_with_it() -> None:
    """Of an upload with files only the beginning is held; what streams behind it counts on (R23)."""
    limit = 100_000
    async with scene(options=DataPlaneOptions(body_bytes=limit)) as on:
        put_service(on)
        async with on.calling() as caller:
            await caller.send(in_chunks(HELD["files of a stranger"], limit))
            assert (await caller.answer(b"POST")).status == 200
        async with on.calling() as caller:
            await caller.send(in_chunks(HELD["files of a stranger"], 2 * limit))
            assert code(await caller.answer(b"POST")) == "body_too_large"
