"""slack_sdk: the sync and the async web client."""

from recording import Recording
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.client import WebClient

CHANNEL = "C012AB3CD"
TEXT = "Grüße & <ciao> 50% + 1 = ✓"


def details(error: SlackApiError) -> dict[str, object]:
    """What a program reads from the SDK's own exception."""
    if not isinstance(error, SlackApiError):
        return {}
    return {"status": error.response.status_code, "body": error.response.data}


def channels(client: WebClient) -> list[str]:
    return [channel["name"] for page in client.conversations_list(limit=2) for channel in page["channels"]]


def main() -> None:
    told = Recording("slack-sdk", details)
    for style, base in {"base": f"{told.base}/slack/api/", "origin": f"{told.base}/slack/"}.items():
        client = WebClient(token=told.key, base_url=base)
        told.step(f"{style} whoami", lambda client=client: client.auth_test().data)
        told.step(f"{style} pages", lambda client=client: channels(client))
        told.step(
            f"{style} write",
            lambda client=client: client.chat_postMessage(channel=CHANNEL, text=TEXT).data,
        )
        told.step(
            f"{style} missing", lambda client=client: client.chat_postMessage(channel="C0", text="x").data
        )

    api = f"{told.base}/slack/api/"
    patient = WebClient(
        token=told.key, base_url=api, retry_handlers=[RateLimitErrorRetryHandler(max_retry_count=1)]
    )
    told.step(
        "limited",
        lambda: patient.reactions_add(channel=CHANNEL, name="thumbsup", timestamp="1503435956.000247").data,
    )

    async def whoami() -> object:
        return (await AsyncWebClient(token=told.key, base_url=api).auth_test()).data

    told.step_async("async", whoami)

    narrow = WebClient(token=told.narrow, base_url=api)
    told.step("permitted", lambda: narrow.auth_test().data)
    told.step("refused", lambda: narrow.chat_postMessage(channel=CHANNEL, text="no").data)
    told.step("credential", lambda: WebClient(token=told.key, base_url=api).auth_revoke().data)
    told.step("stranger", lambda: WebClient(token=told.stranger, base_url=api).auth_test().data)
    bot = WebClient(token=told.key, base_url=f"{told.base}/slackbot@nobody/api/")
    told.step("unconnected", lambda: bot.auth_test().data)
    told.tell()


if __name__ == "__main__":
    main()
