"""httpx, an HTTP client with a ``base_url`` and no idea of any service: all four, in both spellings."""

from typing import Any

import httpx
from recording import Recording

BASES = {
    "slack": ("slack/api", "slack"),
    "calendar": ("googlecalendar/calendar/v3", "googlecalendar"),
    "notion": ("notion/v1", "notion"),
    "github": ("github", "github/"),
}
READS = {
    "slack": "auth.test",
    "calendar": "calendars/primary",
    "notion": "users/me",
    "github": "user",
}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def details(error: httpx.HTTPStatusError) -> dict[str, object]:
    """What a program reads from the client's own exception."""
    if not isinstance(error, httpx.HTTPStatusError):
        return {}
    response = error.response
    return {"status": response.status_code, "body": response.json(), "fields": dict(response.headers)}


def read(client: httpx.Client, method: str, target: str, **options: Any) -> Any:
    response = client.request(method, target, **options).raise_for_status()
    return response.json() if response.content else response.status_code


def streamed(client: httpx.Client) -> str:
    with client.stream("GET", "calendars/primary") as response:
        return b"".join(response.iter_bytes(16)).decode()


def main() -> None:
    told = Recording("httpx", details)
    for service, spellings in BASES.items():
        for style, spelling in zip(("base", "origin"), spellings, strict=True):
            with httpx.Client(base_url=f"{told.base}/{spelling}", headers=bearer(told.key)) as client:
                told.step(f"{service} {style}", lambda c=client, s=service: read(c, "GET", READS[s]))

    calendar = httpx.Client(base_url=f"{told.base}/googlecalendar/calendar/v3", headers=bearer(told.key))
    with calendar:
        event = {"summary": "Höhe", "start": {"date": "2026-11-22"}, "end": {"date": "2026-11-23"}}
        told.step("write", lambda: read(calendar, "POST", "calendars/primary/events", json=event))
        told.step("delete", lambda: read(calendar, "DELETE", "calendars/primary/events/event0"))
        told.step("head", lambda: calendar.head("calendars/primary").status_code)
        told.step("streamed", lambda: streamed(calendar))
        told.step("limited", lambda: read(calendar, "GET", "users/me/calendarList"))
        told.step("limited again", lambda: read(calendar, "GET", "users/me/calendarList"))
        told.step("missing", lambda: read(calendar, "GET", "calendars/none"))

    async def whoami() -> Any:
        async with httpx.AsyncClient(base_url=f"{told.base}/notion/v1", headers=bearer(told.key)) as one:
            return (await one.get("users/me")).json()

    told.step_async("async", whoami)

    plain = httpx.Client(base_url=f"{told.base}/notion")
    with plain:
        told.step("basic", lambda: read(plain, "GET", "users/me", auth=("anyone", told.key)))
        told.step("basic user", lambda: read(plain, "GET", "users/me", auth=(told.key, "")))
        told.step("x-api-key", lambda: read(plain, "GET", "users/me", headers={"X-Api-Key": told.key}))
        told.step("permitted", lambda: read(plain, "GET", "users/me", headers=bearer(told.narrow)))
        told.step("refused", lambda: read(plain, "POST", "search", headers=bearer(told.narrow), json={}))
        told.step("stranger", lambda: read(plain, "GET", "users/me", headers=bearer(told.stranger)))
        told.step("keyless", lambda: read(plain, "GET", "users/me"))
        two = {**bearer(told.key), "X-Api-Key": told.narrow}
        told.step("two keys", lambda: read(plain, "GET", "users/me", headers=two))
    bot = httpx.Client(base_url=f"{told.base}/googledrive", headers=bearer(told.key))
    with bot:
        told.step("unconnected", lambda: read(bot, "GET", "about"))
    told.tell()


if __name__ == "__main__":
    main()
