"""How services answer a batch: each request in it by itself, put together again."""

import email
import email.policy
import json
from collections.abc import Callable
from email.message import Message as Mail
from urllib.parse import urlsplit

from support.strict import Field, Message
from support.upstream import answer

Single = Callable[[Message], bytes]
CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie"})


def google(request: Message, single: Single) -> bytes:
    """A ``multipart/mixed`` of whole answers, each with the Content-ID of its request (Google's "Batch requests")."""
    media = request.value("content-type") or b""
    mail = email.message_from_bytes(
        b"Content-Type: " + media + b"\n\n" + request.body, policy=email.policy.compat32
    )
    assert mail.is_multipart(), mail.defects
    parts = [b"--batch_42\r\n" + _google_part(part, single) + b"\r\n" for part in mail.get_payload()]
    body = b"".join([*parts, b"--batch_42--\r\n"])
    return answer(200, body, (b"Content-Type", b"multipart/mixed; boundary=batch_42"))


def _google_part(part: Mail, single: Single) -> bytes:
    assert part.get_content_type() == "application/http"
    text = part.get_payload(decode=True)
    assert isinstance(text, bytes)
    head, _, body = text.replace(b"\r\n", b"\n").partition(b"\n\n")
    line, *lines = head.split(b"\n")
    fields = [(name, value) for name, _, value in (one.partition(b": ") for one in lines)]
    identity = f"<response-{str(part['Content-ID']).replace(chr(10), '')[1:]}"
    about = b"Content-Type: application/http\r\nContent-ID: " + identity.encode() + b"\r\n\r\n"
    return about + single(_message(line.split(b" ")[0], line.split(b" ")[1], fields, body))


def graph(request: Message, single: Single) -> bytes:
    """One object with all answers ("Combine multiple HTTP requests using JSON batching")."""
    responses = []
    for one in json.loads(request.body)["requests"]:
        assert not urlsplit(one["url"]).netloc, one["url"]
        fields = [(name.encode(), value.encode()) for name, value in (one.get("headers") or {}).items()]
        target = b"/v1.0/" + one["url"].lstrip("/").encode()
        body = json.dumps(one["body"]).encode() if "body" in one else b""
        head, _, content = single(_message(one["method"].encode(), target, fields, body)).partition(
            b"\r\n\r\n"
        )
        status = int(head.split(b" ")[1])
        responses.append({"id": one["id"], "status": status, "body": json.loads(content or b"null")})
    return answer(200, json.dumps({"responses": responses}).encode(), (b"Content-Type", b"application/json"))


def _message(method: bytes, target: bytes, fields: list[Field], body: bytes) -> Message:
    assert not CREDENTIALS & {name.lower() for name, _ in fields}, "a part has a credential of its own"
    framing = "length" if body else "none"
    return Message((method, target, b"HTTP/1.1"), tuple(fields), body, framing)
