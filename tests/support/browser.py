"""A browser without a screen: cookies, redirects, refreshes and forms as a real one has them, all of it recorded."""

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL


@dataclass(slots=True)
class Form:
    """A form of a page: where it goes, its fields as they stand, and the values that a field offers."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    offered: dict[str, list[str]] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.refresh = ""
        self.links: list[str] = []
        self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").upper()))
        elif tag == "meta" and given.get("http-equiv") == "refresh":
            self.refresh = given["content"].partition("url=")[2]
        elif tag in {"a", "link"} and "href" in given:
            self.links.append(given["href"])
        elif tag in {"input", "button"} and self.forms and "name" in given:
            form, name, value = self.forms[-1], given["name"], given.get("value", "")
            form.offered.setdefault(name, []).append(value)
            kind = given.get("type", "text")
            if tag == "input" and (kind not in {"radio", "checkbox"} or "checked" in given):
                form.fields.setdefault(name, value)
        elif tag == "textarea" and self.forms:
            self._area = given["name"]
            self.forms[-1].fields[self._area] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.forms[-1].fields[self._area] += data


@dataclass(frozen=True, slots=True)
class Page:
    """An answer as a person meets it."""

    url: URL
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.text)
        return reader

    @property
    def form(self) -> Form:
        return self.read.forms[0]


class Browser:
    """One browser: ``async with Browser() as browser``. ``visited`` are all addresses, ``pages`` all answers."""

    def __init__(self) -> None:
        self.visited: list[str] = []
        self.pages: list[Page] = []

    async def __aenter__(self) -> Self:
        self.jar = aiohttp.CookieJar(unsafe=True)
        self.session = aiohttp.ClientSession(cookie_jar=self.jar, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self.jar}

    async def ask(
        self,
        url: str | URL,
        method: str = "GET",
        data: Mapping[str, str] | list[tuple[str, str]] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Page:
        """One request, without following anything."""
        self.visited.append(str(url))
        place = url if isinstance(url, URL) else URL(url, encoded=True)
        async with self.session.request(
            method, place, data=data, headers=headers, allow_redirects=False
        ) as answer:
            page = Page(place, answer.status, dict(answer.headers), await answer.text())
            self.pages.append(page)
            return page

    async def follow(self, page: Page) -> Page:
        """Where redirects, and refreshes to another address, lead."""
        while True:
            place = page.headers.get("Location") if 300 <= page.status < 400 else page.read.refresh
            if not place:
                return page
            page = await self.ask(page.url.join(URL(place, encoded=True)))

    async def open(self, url: str | URL) -> Page:
        """An address, to where it ends."""
        return await self.follow(await self.ask(url))

    async def send(self, page: Page, /, **changed: str | list[str] | None) -> Page:
        """The page's form with some fields changed (None: left out), without following."""
        form = page.form
        data: list[tuple[str, str]] = []
        for name, value in {**form.fields, **changed}.items():
            values = value if isinstance(value, list) else [] if value is None else [value]
            data.extend((name, one) for one in values)
        place = page.url.join(URL(form.action or str(page.url), encoded=True))
        return await self.ask(place, form.method, data)

    async def submit(self, page: Page, /, **changed: str | list[str] | None) -> Page:
        """The same, to where it ends."""
        return await self.follow(await self.send(page, **changed))


def query(url: str | URL) -> dict[str, str]:
    """The parameters of an address."""
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(str(url)).query, keep_blank_values=True))
