"""Discord: bodies that SDKs parse for one exact Content-Type only, rate limits in fields of every answer."""

from playing import Played, Reply
from support.arrivals import Arrival

API = "discord.com/api/v10"
LIMITS = (
    (b"X-RateLimit-Limit", b"5"),
    (b"X-RateLimit-Remaining", b"4"),
    (b"X-RateLimit-Reset-After", b"1.0"),
    (b"X-RateLimit-Bucket", b"abcd1234"),
    (b"Via", b"1.1 google"),
)
ME = {"id": "80351110224678912", "username": "Nelly", "discriminator": "0", "avatar": None, "bot": True}


def message(number: int, content: str = "") -> dict[str, object]:
    return {"id": f"{9007199254740993 + number}", "channel_id": "1", "content": content, "author": ME}


def messages(call: Arrival) -> Reply:
    last = "before" in call.query
    return Reply([message(n) for n in ([1] if last else [3, 2])], fields=LIMITS)


def posted(call: Arrival) -> Reply:
    if b"multipart" in (call.request.value("content-type") or b""):
        assert "Grüße\n".encode() in call.request.body
        return Reply({**message(9), "attachments": [{"id": "1", "filename": "a.txt"}]}, fields=LIMITS)
    return Reply(message(9, call.json()["content"]), fields=LIMITS)


SERVICE = Played(
    token="MTk4.real-discord-0123456789",
    scheme="Bot ",
    settings={"kind": "static", "scheme": "bot", "token": {"env": "CONNECTOR_PROXY_TOKEN_DISCORD"}},
    routes={
        f"GET {API}/users/@me": Reply(ME, fields=LIMITS),
        f"GET {API}/users/%40me": Reply(ME, fields=LIMITS),
        f"GET {API}/channels/1/messages": messages,
        f"POST {API}/channels/1/messages": posted,
        f"GET {API}/oauth2/applications/@me": Reply({"id": "1", "name": "app", "flags": 0}, fields=LIMITS),
    },
)
