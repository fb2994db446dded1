"""boxsdk (box_sdk_gen): three bases; a big file goes in parts to the addresses that the session names."""

import io

from box_sdk_gen import (
    BaseUrls,
    BoxClient,
    BoxDeveloperTokenAuth,
    CreateFolderParent,
    UploadFileAttributes,
    UploadFileAttributesParentField,
)

PACKAGE, BASES, WITHOUT = "boxsdk", ("/box", "/box@default"), {}
BIG = b"x" * (2 * 256 * 1024 + 100)


def client(tour, base, key):
    url = tour.http + base
    urls = BaseUrls(base_url=url, upload_url=f"{url}/api", oauth_2_url=f"{url}/oauth2")
    return BoxClient(auth=BoxDeveloperTokenAuth(token=key)).with_custom_base_urls(urls)


def use(tour, base):
    box = client(tour, base, tour.key)
    root = UploadFileAttributesParentField(id="0")
    tour.read(lambda: box.users.get_user_me().name, "Grace ✓")
    tour.read(lambda: box.downloads.download_file("123").read().decode(), "Grüße\n")
    tour.write(lambda: box.folders.create_folder("Grüße", CreateFolderParent(id="0")).name, "Grüße")
    tour.pages(
        lambda: [
            one.name for at in (0, 2) for one in box.folders.get_folder_items("0", offset=at, limit=2).entries
        ],
        ["n1", "n2", "n3"],
    )
    attributes = UploadFileAttributes(name="a.txt", parent=root)
    tour.upload(
        lambda: box.uploads.upload_file(attributes, io.BytesIO("Grüße\n".encode())).entries[0].name, "a.txt"
    )
    tour.upload(
        lambda: box.chunked_uploads.upload_big_file(io.BytesIO(BIG), "big", len(BIG), "0").name, "big"
    )


def refuse(tour, base):
    box = client(tour, base, tour.narrow)
    tour.refused(lambda: box.folders.create_folder("no", CreateFolderParent(id="0")), "BoxAPIError")
