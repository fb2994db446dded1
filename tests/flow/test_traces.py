"""Traces of a server of several processes, as a collector gets them over OTLP (R158)."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from support.browser import Browser
from support.crew import Crew, Service, answer
from support.otlp import Receiver
from support.serving import until

pytestmark = pytest.mark.traced

CALLER = "203.0.113.7"
SAYS = {"X-Forwarded-For": f"198.51.100.1, {CALLER}"}


async def behind_a_balancer(crew: Crew) -> None:
    """A call and a sign-in that a trusted peer passes on."""
    async with Browser() as browser:
        page = await browser.open(f"http://localhost:{crew.control[1]}/sign-in")
        fields = {**page.form.fields, "password": crew.password}
        assert (await browser.ask(str(page.url), "POST", fields, SAYS)).status == 303
        url = f"http://127.0.0.1:{crew.address[1]}/side/fronted"
        asked = {**SAYS, "Authorization": f"Bearer {crew.key}"}
        async with aiohttp.ClientSession() as session, session.get(url, headers=asked) as answered:
            assert answered.status == 200


def test_all_workers_send_their_spans(tmp_path: Path) -> None:
    """Every worker's spans reach the collector, those of its last requests before it ends; with the operator's fields and names, and without secrets. Who calls is whom a trusted peer names, on both planes (R35)."""
    service = Service()
    with Receiver() as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=acme",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",  # nothing is sent before the end but full batches
            "NO_PROXY": "127.0.0.1",
        }
        extra = '[tracing]\nenabled = true\n[server]\ntrusted_peers = ["127.0.0.1/32"]\n'
        with Crew(tmp_path / "crew", service, extra=extra, environment=environment) as crew:
            crew.ready()
            calls = 0
            while len(crew.by_worker()) < 2:
                assert answer(crew.connected(f"/side/{calls}?secret=query")) == 200
                calls += 1
                until(lambda: sum(crew.by_worker().values()) == calls, 10, crew)  # noqa: B023  # asked at once
            asyncio.run(behind_a_balancer(crew))
            calls += 1
            assert crew.stop() == 0
        crew.whole_log()
        found = receiver.until(lambda spans: len(spans) >= 2 * calls)
    service.close()
    servers = [one for one in found if one.kind == "SERVER"]
    places = {f"/side/{number}" for number in range(calls - 1)} | {"/side/fronted"}
    assert {one.attributes["url.path"] for one in servers} == places
    assert len(servers) == calls
    clients = {one.parent: one for one in found if one.kind == "CLIENT"}
    assert {one.id for one in servers} == clients.keys()
    assert {one.attributes["http.response.status_code"] for one in clients.values()} == {200}
    assert {one.attributes["client.address"] for one in servers} == {"127.0.0.1", CALLER}
    assert [one["caller"] for one in crew.events() if one.get("path") == "/side/fronted"] == [CALLER]
    assert [one["address"] for one in crew.events() if one["event"] == "signed_in"] == [CALLER]
    assert len({one.resource["service.instance.id"] for one in found}) == 2
    assert {one.resource["service.name"] for one in found} == {"connector-proxy"}
    assert {one.resource["deployment.environment.name"] for one in found} == {"test"}
    assert {fields["x-tenant"] for fields in receiver.fields} == {"acme"}
    for secret in (b"query", crew.key.encode(), b"token-of-side"):
        assert secret not in receiver.raw
    assert "acme" not in crew.log
