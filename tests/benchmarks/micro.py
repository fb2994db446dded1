"""What each pure step of the data path costs, in nanoseconds: `python tests/benchmarks/micro.py [--json]`.

Two requests: the small one that wrk sends, and one as an SDK sends it. CPU time of the thread, best of seven:
everything else on a machine can only slow a step down. Parser, sockets and the event loop are not in it (see run.py).
"""

import json
import os
import sys
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from proxy import accesslog, keys, log
from proxy.catalog import load_catalog
from proxy.forwarding.framing import answer_head
from proxy.forwarding.gate import Limits, gate
from proxy.forwarding.headers import Field
from proxy.forwarding.injection import prepare
from proxy.forwarding.keys import KeyRing, find_key
from proxy.forwarding.permits import check, effective_method
from proxy.forwarding.rewrite import request_head
from proxy.forwarding.routing import match, parse_target, resolve_host
from proxy.metrics import Metrics
from proxy.secret import Secret

_TIMINGS = 7
_SECONDS_EACH = 0.05
_NOW = 1_800_000_000.0
_SERVICE = "slack"

_SDK_FIELDS: tuple[Field, ...] = (
    (b"User-Agent", b"python-slackclient/3.39.0 Python/3.11.7 Linux/6.1.0"),
    (b"Accept", b"application/json"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"Connection", b"keep-alive"),
    (b"Content-Type", b"application/json;charset=utf-8"),
    (b"Content-Length", b"87"),
    (b"X-Request-Id", b"5f0e9b3c-91d1-4a55-8d64-1f6f6f1f0a52"),
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
)
_ANSWER: tuple[Field, ...] = (
    (b"date", b"Sun, 22 Nov 2026 10:00:00 GMT"),
    (b"server", b"Apache"),
    (b"content-type", b"application/json; charset=utf-8"),
    (b"content-length", b"1024"),
    (b"x-oauth-scopes", b"channels:read,chat:write"),
    (b"vary", b"Accept-Encoding"),
    (b"cache-control", b"private, no-cache, no-store, must-revalidate"),
    (b"x-slack-req-id", b"0123456789abcdef0123456789abcdef"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the server's parser hands it over."""

    method: str
    target: str
    fields: tuple[Field, ...]


def _requests(key: bytes) -> dict[str, Request]:
    common = ((b"Host", b"127.0.0.1:8080"), (b"Authorization", b"Bearer " + key))
    return {
        "small": Request("GET", f"/{_SERVICE}/auth.test", common),
        "sdk": Request(
            "POST", f"/{_SERVICE}@work/api/chat.postMessage?pretty=1&limit=200", (*common, *_SDK_FIELDS)
        ),
    }


def _event(request: Request) -> accesslog.AccessEvent:
    return accesslog.AccessEvent(
        _NOW, "0123456789-1f", "AbCdEfGh", _SERVICE, "work", request.method, request.target, 200, 87, 1024,
        0.012, 0.0117, 0.0116, "127.0.0.1:443", None, "127.0.0.1",
    )  # fmt: skip


def _steps(request: Request, record: keys.KeyRecord, key: bytes) -> dict[str, Callable[[], object]]:
    """The steps in the order of the data path, each with the results of those before it at hand."""
    service = load_catalog().services[_SERVICE]
    ring = KeyRing({record.key_id: record})
    limits = Limits()
    head = gate(request.method, request.target, (1, 1), request.fields, limits)
    target = parse_target(head.target)
    presented = find_key(head, service, target.query)
    grant = ring.authenticate(presented.key, now=_NOW, peer_ip="127.0.0.1")
    route = match(target, head.method, service)
    injection = prepare(service, resolve_host(route, None), token=Secret("xoxp-" + "1" * 60))
    counters = Metrics([_SERVICE], ["invalid_key"]).service(_SERVICE)
    event = _event(request)
    names, values = [name for name, _ in _ANSWER], [value for _, value in _ANSWER]
    method = effective_method(head, route.query, service)
    return {
        "gate": lambda: gate(request.method, request.target, (1, 1), request.fields, limits),
        "parse target": lambda: parse_target(head.target),
        "find key": lambda: find_key(head, service, target.query),
        "authenticate": lambda: ring.authenticate(presented.key, now=_NOW, peer_ip="127.0.0.1"),
        "match route": lambda: match(target, head.method, service),
        "effective method": lambda: effective_method(head, route.query, service),
        "permit": lambda: check(grant.permits, service, "work", method, route.path),
        "request head": lambda: request_head(head, route, injection, presented),
        "answer head": lambda: answer_head(
            version="1.1", status=200, reason=b"OK", names=names, values=values, method=head.method
        ),
        "metrics": lambda: counters.record(
            request.method, 200, bytes_in=87, bytes_out=1024, duration=0.012, added=0.0003, first_byte=0.0117
        ),
        "log: make event": lambda: _event(request),
        "log: render (thread)": lambda: accesslog.access_line(event),
    }


def _best_ns(step: Callable[[], object]) -> float:
    timer = timeit.Timer(step, timer=time.thread_time)
    once = max(timer.timeit(200) / 200, 1e-8)
    number = max(200, int(_SECONDS_EACH / once))
    return min(timer.repeat(_TIMINGS, number)) / number * 1e9


def _emit_ns(request: Request) -> float:
    """Queueing an event, with a writer that stays asleep meanwhile: its thread would share the interpreter."""
    number = 50_000
    event = _event(request)
    best = float("inf")
    for _ in range(_TIMINGS):
        with open(os.devnull, "w", encoding="utf-8") as devnull:  # noqa: PTH123  # a device
            writer = accesslog.EventWriter(
                log.configure("json", stream=devnull), limit=number + 1, interval=3600
            )
            started = time.thread_time()
            for _ in range(number):
                writer.emit(event)
            best = min(best, (time.thread_time() - started) / number * 1e9)
            writer._waiting.clear()  # rendering them all is not what is measured here
            writer.close()
    return best


def measure() -> dict[str, dict[str, float]]:
    """``{step: {request: ns}}``; the key's permits name service, methods and path, as careful people write them."""
    key_id, secret = keys.generate()
    key = secret.reveal().encode()
    permits = ("github", f"{_SERVICE}:GET,POST:/api/auth.*", f"{_SERVICE}@work:POST:/api/chat.*")
    record = keys.KeyRecord(key_id, "micro", keys.digest(key), permits)
    table: dict[str, dict[str, float]] = {}
    for name, request in _requests(key).items():
        for step, run in _steps(request, record, key).items():
            table.setdefault(step, {})[name] = round(_best_ns(run))
        table.setdefault("log: emit", {})[name] = round(_emit_ns(request))
    return table


def main() -> None:
    """Print the table, or with ``--json`` the figures."""
    table = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(table, indent=2))
        return
    names = list(next(iter(table.values())))
    print(f"{'ns a call':22}" + "".join(f"{name:>9}" for name in names))
    for step, row in table.items():
        print(f"{step:22}" + "".join(f"{row[name]:9.0f}" for name in names))
    print(f"{'sum':22}" + "".join(f"{sum(row[name] for row in table.values()):9.0f}" for name in names))


if __name__ == "__main__":
    main()
