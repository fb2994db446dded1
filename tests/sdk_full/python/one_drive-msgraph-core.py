"""msgraph-core: what msgraph-sdk stands on, without its 200 MB of models; batches with absolute addresses inside."""

import asyncio
import json

from kiota_abstractions.api_error import APIError
from kiota_abstractions.authentication import (
    AccessTokenProvider,
    AllowedHostsValidator,
    BaseBearerTokenAuthenticationProvider,
)
from kiota_abstractions.headers_collection import HeadersCollection
from kiota_abstractions.method import Method
from kiota_abstractions.request_information import RequestInformation
from kiota_abstractions.serialization import (
    Parsable,
    ParseNodeFactoryRegistry,
    SerializationWriterFactoryRegistry,
)
from kiota_serialization_json.json_parse_node_factory import JsonParseNodeFactory
from kiota_serialization_json.json_serialization_writer_factory import JsonSerializationWriterFactory
from msgraph_core import BaseGraphRequestAdapter
from msgraph_core.requests.batch_request_builder import BatchRequestBuilder
from msgraph_core.requests.batch_request_content import BatchRequestContent
from msgraph_core.requests.batch_request_item import BatchRequestItem
from msgraph_core.tasks import PageIterator

PACKAGE, BASES = "msgraph-core", ("/one_drive/v1.0", "/one_drive@default/v1.0")
WITHOUT = {
    "upload": "its upload task has faults of its own: it fails with a second piece, and sends a single one twice"
}
ROOT = "/me/drive/root"
# What importing msgraph-sdk does.
ParseNodeFactoryRegistry().CONTENT_TYPE_ASSOCIATED_FACTORIES["application/json"] = JsonParseNodeFactory()
SerializationWriterFactoryRegistry().CONTENT_TYPE_ASSOCIATED_FACTORIES["application/json"] = (
    JsonSerializationWriterFactory()
)


class ProxyKey(AccessTokenProvider):
    def __init__(self, key) -> None:
        self._key = key

    async def get_authorization_token(self, *_):
        return self._key

    def get_allowed_hosts_validator(self):
        return AllowedHostsValidator([])


class Item(Parsable):
    """A model as msgraph-sdk has them."""

    name = None

    @staticmethod
    def create_from_discriminator_value(_=None) -> "Item":
        return Item()

    def get_field_deserializers(self):
        return {"name": lambda node: setattr(self, "name", node.get_str_value())}

    def serialize(self, writer):
        writer.write_str_value("name", self.name)


class Items(Parsable):
    odata_next_link = value = None

    @staticmethod
    def create_from_discriminator_value(_=None) -> "Items":
        return Items()

    def get_field_deserializers(self):
        return {
            "@odata.nextLink": lambda node: setattr(self, "odata_next_link", node.get_str_value()),
            "value": lambda node: setattr(self, "value", node.get_collection_of_object_values(Item)),
        }

    def serialize(self, writer):
        raise NotImplementedError


class RefusalError(APIError, Parsable):
    @staticmethod
    def create_from_discriminator_value(_=None) -> "RefusalError":
        return RefusalError()

    def get_field_deserializers(self):
        return {"message": lambda node: setattr(self, "message", node.get_str_value())}

    def serialize(self, writer):
        raise NotImplementedError


def adapter(tour, base, key):
    made = BaseGraphRequestAdapter(BaseBearerTokenAuthenticationProvider(ProxyKey(key)))
    made.base_url = tour.http + base
    return made


def asks(method, url, body=None):
    info = RequestInformation()
    info.http_method, info.url, info.headers = method, url, HeadersCollection()
    if body is not None:
        info.headers.try_add("Content-Type", "application/json")
        info.content = json.dumps(body, ensure_ascii=False).encode()
    return info


async def raw(graph, info, errors=None):
    any_status = {"XXX": RefusalError}  # Kiota's pattern for it
    return await graph.send_primitive_async(info, "bytes", errors or any_status)


async def batched(graph):
    """Absolute addresses of the proxy in the parts. Bodies that are JSON it loses: it takes them for base64."""
    at = graph.base_url
    first = BatchRequestItem(asks(Method.GET, f"{at}/me"), "1")
    second = BatchRequestItem(asks(Method.GET, f"{at}{ROOT}/children?$top=2"), "2", [first])
    third = BatchRequestItem(asks(Method.POST, f"{at}{ROOT}/children", {"name": "Grüße"}), "3", [second])
    content = BatchRequestContent({item.id: item for item in (first, second, third)})
    return (await BatchRequestBuilder(graph).post(content)).get_response_status_codes()


async def referred(graph):
    """An address of the proxy in a body, which a client makes from its base URL."""
    body = {"@odata.id": f"{graph.base_url}/users/1"}
    return await raw(graph, asks(Method.POST, f"{graph.base_url}/groups/1/members/$ref", body))


async def paged(graph):
    page = await graph.send_async(asks(Method.GET, f"{graph.base_url}{ROOT}/children?$top=2"), Items, {})
    names = []
    await PageIterator(page, graph).iterate(lambda item: names.append(item.name) or True)
    return names


def use(tour, base):
    def asked(steps):
        return asyncio.run(steps(adapter(tour, base, tour.key)))

    def named(method, url, body=None):
        async def steps(graph):
            return json.loads(await raw(graph, asks(method, graph.base_url + url, body)))

        return asked(steps)

    tour.read(lambda: named(Method.GET, "/me")["displayName"], "Grace ✓")
    tour.read(lambda: asked(batched), {"1": 200, "2": 200, "3": 201})
    tour.write(
        lambda: named(Method.POST, f"{ROOT}/children", {"name": "Grüße", "folder": {}})["name"], "Grüße"
    )
    tour.write(lambda: asked(referred), None)
    tour.pages(lambda: asked(paged), ["a", "b", "c"])


def refuse(tour, base):
    async def steps():
        graph = adapter(tour, base, tour.narrow)
        return await raw(graph, asks(Method.POST, f"{graph.base_url}{ROOT}/children", {"name": "no"}))

    tour.refused(lambda: asyncio.run(steps()), "RefusalError")
