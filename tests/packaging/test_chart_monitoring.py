"""Alerts, the dashboard and what KEDA asks: every metric, label and word in them is one that the service has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from bridge.telemetry.metrics import Metrics
from tests.docs.pages import page, spans
from tests.packaging.chart import CHART, NAMESPACE, Rendered, with_options
from tests.packaging.test_chart_pods import named

pytestmark = pytest.mark.packaging

DASHBOARD = CHART / "dashboards" / "sip-bridge.json"
# What Prometheus, or its operator, adds to each sample.
TARGET = {"container", "endpoint", "instance", "job", "namespace", "pod", "service"}
SELECTOR = re.compile(r"([a-z_][a-z0-9_]*)\{([^}]*)\}")
MATCHER = re.compile(r'([a-z_]+)(?:=~|!~|!=|=)"([^"]*)"')
COLUMNS = 24

Panel = dict[str, Any]


def samples() -> dict[str, dict[str, set[str]]]:
    """Each sample that the service gives before anything happens: its labels, and what they say."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in Metrics(endpoints=["main"]).collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, word in sample.labels.items():
                labels.setdefault(label, set()).add(word)
    return found


SAMPLES = samples()
# Why something was dropped is said when it happens; the page has the words about links.
DROPPED = {word for _, word in page("docs/operations.md").words() if word.startswith("cluster_")}
SAMPLES["bridge_dropped_total"]["reason"] |= DROPPED


def rules() -> list[dict[str, Any]]:
    (group,) = named("scaled-by-keda").one("PrometheusRule")["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[Panel]:
    found: list[Panel] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Every query that the chart has, and where."""
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    (trigger,) = named("scaled-by-keda").one("ScaledObject")["spec"]["triggers"]
    yield "KEDA", trigger["metadata"]["query"]


QUERIES = [pytest.param(query, id=f"{where}-{at}") for at, (where, query) in enumerate(queries())]


def wrong_with(query: str) -> list[str]:
    """What in this query the service does not have."""
    faults = []
    selectors = SELECTOR.findall(query)
    bare = SELECTOR.sub("", re.sub(r"\b(?:by|without) ?\([^)]*\)", "", query))
    faults += [f"{name} without a selector" for name in re.findall(r"\b(?:bridge|process)_\w+", bare)]
    if bare.count("(") != bare.count(")") or not selectors:
        faults.append("brackets")
    known: set[str] = set(TARGET)
    for name, matchers in selectors:
        if name not in SAMPLES:
            faults.append(f"no metric {name}")
            continue
        known |= SAMPLES[name].keys()
        for label, text in MATCHER.findall(matchers):
            if label in SAMPLES[name]:
                faults += [f"no {label} {word}" for word in set(text.split("|")) - SAMPLES[name][label]]
            elif label not in {"namespace", "pod"}:
                faults.append(f"{name} has no label {label}")
    for labels in re.findall(r"\bby \(([^)]*)\)", query):
        faults += [f"nothing has a label {label}" for label in set(labels.split(", ")) - known]
    return faults


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_what_there_is(query: str) -> None:
    assert not wrong_with(query)


@pytest.mark.parametrize(
    "query",
    [
        'sum(bridge_callz{pod=~"a"})',
        'sum(bridge_calls{stat="answered"})',
        'sum(bridge_calls{state="up"})',
        'sum(rate(bridge_dropped_total{reason="cluster_gone"}[5m]))',
        "sum(bridge_calls)",
        'sum by (reason) (bridge_calls{pod="a"})',
        'sum(bridge_calls{pod="a"}',
    ],
)
def test_what_there_is_not_is_noticed(query: str) -> None:
    assert wrong_with(query)


# Alerts


def test_each_alert_says_something_and_the_pages_say_what() -> None:
    told = [spans(row[0])[0] for row in page("docs/operations.md").table("Alerts", "alert")]
    assert told == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_alerts_are_about_this_release_alone() -> None:
    for rule in rules():
        assert rule["expr"].count("{") == rule["expr"].count(
            f'{{namespace="{NAMESPACE}",pod=~"phones-sip-bridge-[0-9]+"'
        ), rule["alert"]


def test_who_is_to_be_told_can_be_added() -> None:
    (group,) = named("existing-secret").one("PrometheusRule")["spec"]["groups"]
    assert all(rule["labels"]["team"] == "voice" for rule in group["rules"])


def test_one_pod_alone_is_not_asked_for_room_for_another() -> None:
    rendered = Rendered(*with_options("redis.url=redis://redis:6379/0", "replicas=1", "prometheusRule.enabled=true"))
    (group,) = rendered.one("PrometheusRule")["spec"]["groups"]
    assert {rule["alert"] for rule in rules()} - {rule["alert"] for rule in group["rules"]} == {
        "SipBridgeNoRoomForHeirs"
    }


def test_the_operators_labels_hide_none_of_ours() -> None:
    assert TARGET & set().union(*SAMPLES.values()) == {"endpoint"}
    (endpoint,) = named("scaled-by-keda").one("ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True


# The dashboard


def test_the_dashboard_is_in_its_config_map_as_it_is_in_its_file() -> None:
    found = named("existing-secret").one("ConfigMap", "phones-sip-bridge-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Voice"}
    (text,) = found["data"].values()
    assert json.loads(text) == json.loads(DASHBOARD.read_text(encoding="utf-8"))


def test_no_panel_covers_another_and_none_leaves_a_gap() -> None:
    placed = [(panel["title"], panel["gridPos"]) for panel in panels()]
    for (one, a), (other, b) in combinations(placed, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart or above, f"{one} and {other}"
    for title, place in placed:
        assert place["x"] >= 0, title
        assert place["x"] + place["w"] <= COLUMNS, title
    height = max(place["y"] + place["h"] for _, place in placed)
    assert sum(place["w"] * place["h"] for _, place in placed) == COLUMNS * height


def test_each_panel_says_what_it_shows_and_where_it_asks() -> None:
    every = panels()
    assert len({panel["id"] for panel in every}) == len(every)
    shown = [panel for panel in every if panel["type"] != "row"]
    assert len({panel["title"] for panel in shown}) == len(shown)
    for panel in shown:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_every_variable_that_is_used_is_asked_for() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)", DASHBOARD.read_text(encoding="utf-8")))
    assert used == set(variables)
    for each in variables.values():
        assert set(re.findall(r"bridge_\w+", each.get("definition", ""))) <= set(SAMPLES)


def test_every_metric_of_ours_is_in_the_dashboard() -> None:
    text = DASHBOARD.read_text(encoding="utf-8")
    bare = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in SAMPLES if name.startswith("bridge_")}
    assert {name for name in bare if name not in text} == set()


def test_the_file_is_as_it_would_be_written() -> None:
    """So that a change of a panel is a change of that panel alone."""
    text = DASHBOARD.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
