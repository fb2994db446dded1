"""slack_sdk: an upload, whose second step goes to an address that the first one answers with."""

from recording import Recording
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.client import WebClient

FILE = {"channel": "C012AB3CD", "content": "Grüße\n", "filename": "a.txt"}


def main() -> None:
    told = Recording("slack-sdk")
    for style, base in {"base": f"{told.base}/slack/api/", "origin": f"{told.base}/slack/"}.items():
        client = WebClient(token=told.key, base_url=base)
        told.step(f"{style} upload", lambda client=client: client.files_upload_v2(**FILE)["files"])

        async def upload(base: str = base) -> object:
            return (await AsyncWebClient(token=told.key, base_url=base).files_upload_v2(**FILE))["files"]

        told.step_async(f"{style} async upload", upload)
    told.tell()


if __name__ == "__main__":
    main()
