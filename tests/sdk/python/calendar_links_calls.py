"""google-api-python-client built from the discovery document that the proxy passes on: no file of its own is changed."""

import google_auth_httplib2
import httplib2
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from recording import Recording

START = {"dateTime": "2026-11-22T09:00:00+01:00"}


def main() -> None:
    told = Recording("google-api-python-client")
    authorized = google_auth_httplib2.AuthorizedHttp(Credentials(told.key), http=httplib2.Http())
    service = build(
        "calendar",
        "v3",
        http=authorized,
        discoveryServiceUrl=f"{told.base}/googlecalendar/discovery/v1/apis/{{api}}/{{apiVersion}}/rest",
        static_discovery=False,
    )
    told.step("read", service.calendars().get(calendarId="primary").execute)
    event = {"summary": "Über alles & mehr", "start": START, "end": START}
    told.step("write", service.events().insert(calendarId="primary", body=event).execute)
    told.tell()


if __name__ == "__main__":
    main()
