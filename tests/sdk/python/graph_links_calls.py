"""A plain client that reads Microsoft Graph page by page, as all of its SDKs do: by the address in the answer."""

import httpx
from recording import Recording


def main() -> None:
    told = Recording("httpx")
    for style, base in {"base": f"{told.base}/outlook", "version": f"{told.base}/outlook/v1.0"}.items():
        with httpx.Client(headers={"Authorization": f"Bearer {told.key}"}, timeout=20) as client:

            def pages(client: httpx.Client = client, base: str = base) -> list[str]:
                found = []
                url: str | None = f"{base}/me/messages?$top=2&$select=subject"
                while url:
                    page = client.get(url).raise_for_status().json()
                    found += [message["subject"] for message in page["value"]]
                    url = page.get("@odata.nextLink")
                return found

            told.step(f"{style} pages", pages)

            def batch(client: httpx.Client = client, base: str = base) -> list[object]:
                """As msgraph-core writes it: absolute addresses, and a member that Graph does not know."""
                version = base.removesuffix("/v1.0") + "/v1.0"
                one = {"id": "1", "method": "GET", "url": f"{version}/me/messages?$top=2", "depends_on": []}
                two = {"id": "2", "method": "GET", "url": "/me/missing", "headers": {"Accept": "*/*"}}
                made = client.post(f"{base}/$batch", json={"requests": [one, two]}).raise_for_status().json()
                link = made["responses"][0]["body"]["@odata.nextLink"]
                page = client.get(link).raise_for_status().json()
                return [part["status"] for part in made["responses"]] + [
                    each["subject"] for each in page["value"]
                ]

            told.step(f"{style} batch", batch)
    told.tell()


if __name__ == "__main__":
    main()
