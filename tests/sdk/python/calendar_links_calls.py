"""google-api-python-client built from the discovery document that the proxy passes on: no file of its own is changed."""

from typing import Any

import google_auth_httplib2
import httplib2
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from recording import Recording

START = {"dateTime": "2026-11-22T09:00:00+01:00"}


def built(told: Recording, key: str) -> Any:
    """The service as build() makes it from the document that the proxy passes on."""
    return build(
        "calendar",
        "v3",
        http=google_auth_httplib2.AuthorizedHttp(Credentials(key), http=httplib2.Http()),
        discoveryServiceUrl=f"{told.base}/googlecalendar/discovery/v1/apis/{{api}}/{{apiVersion}}/rest",
        static_discovery=False,
    )


def main() -> None:
    told = Recording("google-api-python-client")
    service = built(told, told.key)
    told.step("read", service.calendars().get(calendarId="primary").execute)
    event = {"summary": "Über alles & mehr", "start": START, "end": START}
    told.step("write", service.events().insert(calendarId="primary", body=event).execute)

    told.step("batch", lambda: batch(service, event))
    told.step("refused", lambda: batch(built(told, told.narrow), event))
    told.tell()


def batch(service: Any, event: object) -> list[str]:
    """A read, a write, a read with a long address, and one that fails, all in one request."""
    found: dict[str, str] = {}

    def keep(name: str, response: Any, error: Any) -> None:
        found[name] = str(error.resp.status) if error is not None else response.get("summary", "events")

    together = service.new_batch_http_request(callback=keep)
    together.add(service.calendars().get(calendarId="primary"))
    together.add(
        service.events().insert(calendarId="primary", body=event),
        request_id="a write, with an id so long that it is folded",
    )
    together.add(service.events().list(calendarId="primary", q="x" * 2500))
    together.add(service.calendars().get(calendarId="missing"))
    together.execute()
    return list(found.values())


if __name__ == "__main__":
    main()
