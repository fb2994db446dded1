"""google-api-python-client on Calendar: ``api_endpoint`` in both spellings, and a document with another root."""

import json
from pathlib import Path

import googleapiclient.discovery_cache
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import Resource, build, build_from_document
from googleapiclient.errors import HttpError
from recording import Recording

DOCUMENT = Path(googleapiclient.discovery_cache.__file__).parent / "documents" / "calendar.v3.json"
START = {"dateTime": "2026-11-22T09:00:00+01:00"}


def details(error: HttpError) -> dict[str, object]:
    """What a program reads from the SDK's own exception."""
    return {"status": error.status_code, "reason": error.reason} if isinstance(error, HttpError) else {}


def at(endpoint: str, key: str, name: str = "calendar", version: str = "v3") -> Resource:
    return build(name, version, credentials=Credentials(key), client_options={"api_endpoint": endpoint})


def from_document(root: str, key: str) -> Resource:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    document["rootUrl"] = root
    return build_from_document(document, credentials=Credentials(key))


def events(service: Resource) -> list[str]:
    """Follows the pages as Google's guides do it."""
    found: list[str] = []
    request = service.events().list(calendarId="primary", maxResults=2)
    while request is not None:
        page = request.execute()
        found += [event["id"] for event in page["items"]]
        request = service.events().list_next(request, page)
    return found


def calls(told: Recording, style: str, service: Resource) -> None:
    told.step(f"{style} read", service.calendars().get(calendarId="primary").execute)
    told.step(f"{style} pages", lambda: events(service))
    event = {"summary": "Über alles & mehr", "start": START, "end": START}
    told.step(f"{style} write", service.events().insert(calendarId="primary", body=event).execute)
    told.step(f"{style} delete", service.events().delete(calendarId="primary", eventId="event0").execute)
    told.step(f"{style} missing", service.events().get(calendarId="primary", eventId="none").execute)


def main() -> None:
    told = Recording("google-api-python-client", details)
    base = f"{told.base}/googlecalendar/calendar/v3/"
    calls(told, "base", at(base, told.key))
    calls(told, "origin", at(f"{told.base}/googlecalendar/", told.key))
    calls(told, "document", from_document(f"{told.base}/googlecalendar/", told.key))

    told.step("limited", lambda: at(base, told.key).calendarList().list().execute(num_retries=1))
    keyed = build("calendar", "v3", developerKey=told.key, client_options={"api_endpoint": base})
    told.step("developer key", keyed.calendars().get(calendarId="primary").execute)

    narrow = at(base, told.narrow)
    told.step("permitted", narrow.calendars().get(calendarId="primary").execute)
    told.step("refused", narrow.events().delete(calendarId="primary", eventId="event0").execute)
    told.step("stranger", at(base, told.stranger).calendars().get(calendarId="primary").execute)
    drive = at(f"{told.base}/googledrive/drive/v3/", told.key, "drive")
    told.step("unconnected", drive.about().get(fields="user").execute)
    told.tell()


if __name__ == "__main__":
    main()
