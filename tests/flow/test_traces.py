"""Traces of a server of several processes, as a collector gets them over OTLP (R158)."""

from pathlib import Path

from support.crew import Crew, Service, answer
from support.otlp import Receiver
from support.serving import until


def test_all_workers_send_their_spans(tmp_path: Path) -> None:
    """Every worker's spans reach the collector, those of its last requests before it ends; with the operator's fields and names, and without secrets."""
    service = Service()
    with Receiver() as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=acme",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",  # nothing is sent before the end but full batches
            "NO_PROXY": "127.0.0.1",
        }
        extra = "[tracing]\nenabled = true\n"
        with Crew(tmp_path / "crew", service, extra=extra, environment=environment) as crew:
            crew.ready()
            calls = 0
            while len(crew.by_worker()) < 2:
                assert answer(crew.connected(f"/side/{calls}?secret=query")) == 200
                calls += 1
                until(lambda: sum(crew.by_worker().values()) == calls, 10, crew)  # noqa: B023  # asked at once
            assert crew.stop() == 0
        crew.whole_log()
        found = receiver.until(lambda spans: len(spans) >= 2 * calls)
    service.close()
    servers = [one for one in found if one.kind == "SERVER"]
    assert sorted(one.attributes["url.path"] for one in servers) == sorted(f"/side/{n}" for n in range(calls))
    clients = {one.parent: one for one in found if one.kind == "CLIENT"}
    assert {one.id for one in servers} == clients.keys()
    assert {one.attributes["http.response.status_code"] for one in clients.values()} == {200}
    assert len({one.resource["service.instance.id"] for one in found}) == 2
    assert {one.resource["service.name"] for one in found} == {"connector-proxy"}
    assert {one.resource["deployment.environment.name"] for one in found} == {"test"}
    assert {fields["x-tenant"] for fields in receiver.fields} == {"acme"}
    for secret in (b"query", crew.key.encode(), b"token-of-side"):
        assert secret not in receiver.raw
    assert "acme" not in crew.log
