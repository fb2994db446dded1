"""slack_sdk: pages by cursor, an upload whose second step goes where the first one's answer says."""

from slack_sdk import WebClient

PACKAGE, BASES, WITHOUT = "slack-sdk", ("/slack/", "/slack/api/"), {}
TEXT = "Grüße & <ciao> 50% + 1 = ✓"


def use(tour, base):
    client = WebClient(token=tour.key, base_url=tour.http + base)
    tour.read(lambda: client.auth_test()["user_id"], "W12345678")
    tour.write(lambda: client.chat_postMessage(channel="C1", text=TEXT)["message"]["text"], TEXT)
    tour.pages(
        lambda: [one["name"] for page in client.conversations_list(limit=2) for one in page["channels"]],
        ["general", "random", "café"],
    )
    tour.upload(
        lambda: client.files_upload_v2(channel="C1", content="Grüße\n", filename="a.txt")["files"][0][
            "url_private"
        ],
        f"{tour.http}/slack/~files/files-pri/T1-F1/a.txt",
    )


def refuse(tour, base):
    client = WebClient(token=tour.narrow, base_url=tour.http + base)
    tour.refused(lambda: client.chat_postMessage(channel="C1", text="no"), "SlackApiError")
