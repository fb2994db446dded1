"""slack_sdk with a token given per call: it stands in the form alone."""

from recording import Recording
from slack_sdk.web.client import WebClient


def main() -> None:
    told = Recording("slack-sdk")
    client = WebClient(base_url=f"{told.base}/slack/api/")
    told.step("form", lambda: client.api_call("auth.test", data={"token": told.key}).data)
    told.tell()


if __name__ == "__main__":
    main()
