"""The Grafana dashboard and the alert rules in ``config/`` ask for what a running server tells."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.proxy import bound
from support.serving import QUICK, Serve, get, until

from proxy.connectors.model import State
from proxy.connectors.refresh.events import OUTCOMES
from proxy.problems import CODES

CONFIG = Path(__file__).parents[2] / "config"
DASHBOARD: dict[str, Any] = json.loads((CONFIG / "grafana-dashboard.json").read_text(encoding="utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((CONFIG / "prometheus-alerts.yaml").read_text(encoding="utf-8"))
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = sorted({*QUERIES, *(rule["expr"] for rule in RULES)})
VALUES: Mapping[str, frozenset[str]] = {
    "state": frozenset(get_args(State)),
    "outcome": frozenset({*OUTCOMES, "delivered", "failed", "dropped"}),
    "code": frozenset(CODES),
    "status": frozenset({"500", "502", "599", "5xx"}),
}
ADDED_BY_PROMETHEUS = {"instance", "job"}
_SELECTOR = re.compile(r"(connector_proxy_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')
_BY = re.compile(r"\bby \(([^)]*)\)")
_WEBHOOK = {
    "CONNECTOR_PROXY_WEBHOOK__URL": "https://hooks.example/here",
    "CONNECTOR_PROXY_WEBHOOK__SECRET": json.dumps({"env": "HOOK"}),
    "HOOK": "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every series that a running server with workers and a webhook exposes: sample name -> labels seen."""
    folder = tmp_path_factory.mktemp("observed")
    with Serve(folder, *QUICK, "--workers", "2", extra=_WEBHOOK) as server:
        assert get(server.address, "/slack/api.test")[0] == 401
        metrics = until(lambda: _counted(server), 30, server)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics):
        names = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        for name in names:
            found.setdefault(family.name + name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _counted(server: Serve) -> str:
    text = get(bound(server.told["control"]), "/metrics")[2].decode()
    return text if re.search(r"^connector_proxy_requests_total\{", text, re.MULTILINE) else ""


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Name and matchers of each series that is asked for."""
    for name, matchers in _SELECTOR.findall(expression):
        yield name, _MATCHER.findall(matchers)


def test_every_series_that_is_asked_for_is_exposed(told: dict[str, set[str]]) -> None:
    """No panel stays empty and no alert silent because of a name or a label that there is not (R154, R158)."""
    unknown = []
    for expression in EXPRESSIONS:
        for name, matchers in selectors(expression):
            labels = told.get(name)
            if labels is None:
                unknown.append(name)
                continue
            wanted = {label for label, _, _ in matchers} - ADDED_BY_PROMETHEUS
            if labels:  # a series without samples yet shows no labels
                unknown += [f"{name}{{{label}}}" for label in wanted - labels]
    assert unknown == []


def test_every_variable_of_the_dashboard_has_values(told: dict[str, set[str]]) -> None:
    """What one can choose by is a label of a series that there is."""
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]  # fails the test
            assert label in told[name] | ADDED_BY_PROMETHEUS


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_matched_values_are_values(expression: str) -> None:
    """States, outcomes, codes and statuses that are matched are among those that the program can tell."""
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")
    for _, matchers in selectors(expression):
        for label, operator, text in matchers:
            if label not in VALUES or text.startswith("$"):
                continue
            forms = text.split("|") if operator == "=~" else [text]
            for form in forms:
                assert any(re.fullmatch(form, value) for value in VALUES[label]), (label, form)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_counters_are_rated_and_gauges_are_not(expression: str) -> None:
    """A total that only grows says nothing by itself, and the rate of a gauge is nonsense."""
    for hit in _SELECTOR.finditer(expression):
        name, behind = hit.group(1), expression[hit.end() :]
        rated = behind.startswith("[") and re.search(r"\b(?:rate|increase)\($", expression[: hit.start()])
        assert bool(rated) == name.endswith(("_total", "_bucket")), name


def test_what_alerts_say_names_labels_that_are_left() -> None:
    """A text that shows a label shows one by which its expression keeps series apart."""
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        kept = {label.strip() for by in _BY.findall(rule["expr"]) for label in by.split(",")}
        if not re.search(r"\b(?:sum|max|count|absent)\b", rule["expr"]):
            kept |= ADDED_BY_PROMETHEUS
        shown = {
            label for text in rule["annotations"].values() for label in re.findall(r"\$labels\.(\w+)", text)
        }
        assert shown <= kept, rule["alert"]
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_panels_are_laid_out_without_overlaps() -> None:
    """24 columns, no panel over another, ids of their own, every one with a title and a datasource to choose."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        assert panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}


def test_the_page_on_operations_tells_of_both() -> None:
    """Whoever runs a proxy learns where the files are, and the alerts by name."""
    text = (
        OPERATIONS.read_text(encoding="utf-8")
        .partition("\n## Dashboard and alerts\n")[2]
        .partition("\n## ")[0]
    )
    assert "config/grafana-dashboard.json" in text
    assert "config/prometheus-alerts.yaml" in text
    assert set(re.findall(r"`(ConnectorProxy\w+)`", text)) == {rule["alert"] for rule in RULES}
