"""google-api-python-client with ``api_endpoint``, which replaces the whole base of an API."""

from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build

PACKAGE, BASES = "google-api-python-client", ("/googlecalendar/calendar/v3/", "/googlecalendar/")
WITHOUT = {"upload": "the API has none"}


def client(tour, base, key):
    options = {"api_endpoint": tour.http + base}
    return build("calendar", "v3", credentials=Credentials(key), client_options=options).events()


def use(tour, base):
    options = {"api_endpoint": tour.http + base}
    calendar = build("calendar", "v3", credentials=Credentials(tour.key), client_options=options)
    tour.read(lambda: calendar.calendars().get(calendarId="primary").execute()["summary"], "Übersicht")
    events = client(tour, base, tour.key)
    made = {"summary": "Grüße"}
    tour.write(lambda: events.insert(calendarId="primary", body=made).execute()["summary"], "Grüße")
    tour.pages(lambda: pages(events), ["e1", "e2", "e3"])


def pages(events):
    names, asked = [], events.list(calendarId="primary", maxResults=2)
    while asked is not None:
        found = asked.execute()
        names += [one["id"] for one in found["items"]]
        asked = events.list_next(asked, found)
    return names


def refuse(tour, base):
    events = client(tour, base, tour.narrow)
    tour.refused(lambda: events.insert(calendarId="primary", body={"summary": "no"}).execute(), "HttpError")
