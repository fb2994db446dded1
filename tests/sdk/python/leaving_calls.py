"""What goes wrong without a base URL: SDKs that call their vendors' hosts, to prove that the trap holds them."""

import socket

import httpx
from recording import Recording
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.client import WebClient


def main() -> None:
    told = Recording("slack-sdk")
    told.step("sync", lambda: WebClient(token=told.key, timeout=5).auth_test().data)

    async def whoami() -> object:
        return (
            await AsyncWebClient(token=told.key, timeout=5, base_url="https://files.slack.com/").auth_test()
        ).data

    told.step_async("async", whoami)
    told.step("httpx", lambda: httpx.get("https://api.github.com/user", timeout=5).status_code)
    told.step("address", lambda: socket.create_connection(("192.0.2.1", 443), 5).fileno())
    told.step("other port", lambda: socket.create_connection(("127.0.0.1", 9), 5).fileno())
    told.tell()


if __name__ == "__main__":
    main()
