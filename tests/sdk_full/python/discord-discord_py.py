"""discord.py: its HTTP side (the gateway is a WebSocket). The base is an attribute of a class."""

import asyncio
import io

import discord
from discord.http import HTTPClient, Route, handle_message_parameters

PACKAGE, BASES, WITHOUT = "discord.py", ("/discord/api/v10", "/discord/v10"), {}


def asked(tour, base, key, use):
    """What a logged-in client gets."""
    Route.BASE = tour.http + base

    async def run():
        http = HTTPClient(asyncio.get_running_loop(), max_ratelimit_timeout=30)
        try:
            await http.static_login(key)
            return await use(http)
        finally:
            await http.close()

    return asyncio.run(run())


async def pages(http):
    first = await http.logs_from(1, 2)
    return [one["id"] for one in (*first, *await http.logs_from(1, 2, before=first[-1]["id"]))]


async def me(http):
    return (await http.request(Route("GET", "/users/@me")))["username"]


async def write(http, text="Grüße"):
    with handle_message_parameters(content=text) as form:
        return (await http.send_message(1, params=form))["content"]


async def upload(http):
    with handle_message_parameters(file=discord.File(io.BytesIO("Grüße\n".encode()), "a.txt")) as form:
        return (await http.send_message(1, params=form))["attachments"][0]["filename"]


def use(tour, base):
    tour.read(lambda: asked(tour, base, tour.key, me), "Nelly")
    tour.write(lambda: asked(tour, base, tour.key, write), "Grüße")
    tour.pages(
        lambda: asked(tour, base, tour.key, pages),
        ["9007199254740996", "9007199254740995", "9007199254740994"],
    )
    tour.upload(lambda: asked(tour, base, tour.key, upload), "a.txt")


def refuse(tour, base):
    tour.refused(lambda: asked(tour, base, tour.narrow, write), "Forbidden")
