"""slack_sdk with a token given per call: it stands in the form alone."""

from recording import Recording
from slack_calls import CHANNEL, TEXT, details
from slack_sdk.web.client import WebClient


def main() -> None:
    told = Recording("slack-sdk", details)
    client = WebClient(base_url=f"{told.base}/slack/api/")
    told.step("form", lambda: client.api_call("auth.test", data={"token": told.key}).data)
    message = {"channel": CHANNEL, "text": TEXT}
    told.step("write", lambda: client.api_call("chat.postMessage", data={"token": told.key, **message}).data)
    told.step(
        "refused", lambda: client.api_call("chat.postMessage", data={**message, "token": told.narrow}).data
    )
    told.step("stranger", lambda: client.api_call("auth.test", data={"token": told.stranger}).data)
    told.tell()


if __name__ == "__main__":
    main()
