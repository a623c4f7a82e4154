"""The dashboard in ``deploy/grafana.json`` asks for metrics that raysplit publishes, with labels that they have."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from documented import DOCS

from raysplit.runs.ray_metrics import METRICS

TEXT = (DOCS.parent / "deploy" / "grafana.json").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads(TEXT)
EXPORTED = {f"ray_{metric.name}" + ("_total" if metric.kind == "counter" else ""): metric for metric in METRICS}
"""Every metric by the name that Prometheus has it under: Ray's prefix, and the ending of counters."""
ALWAYS = {"run", "algorithm"}
"""The labels of all metrics."""

_TARGET = {"type": "object", "required": ["refId", "expr", "legendFormat", "datasource"]}
_PANEL = {
    "type": "object",
    "required": ["id", "title", "type", "gridPos", "targets", "fieldConfig", "datasource"],
    "properties": {
        "type": {"enum": ["stat", "timeseries", "bargauge"]},
        "title": {"type": "string", "minLength": 1},
        "gridPos": {
            "type": "object",
            "properties": {side: {"type": "integer", "minimum": 0} for side in "xywh"},
            "required": list("xywh"),
            "additionalProperties": False,
        },
        "targets": {"type": "array", "minItems": 1, "items": _TARGET},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["title", "uid", "schemaVersion", "templating", "time", "panels"],
    "properties": {
        "schemaVersion": {"type": "integer", "minimum": 36},
        "panels": {"type": "array", "minItems": 1, "items": _PANEL},
    },
}


def expressions() -> list[tuple[str, str]]:
    """What is asked, with the legend."""
    return [(target["expr"], target["legendFormat"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_the_dashboard_has_the_parts_that_grafana_reads() -> None:
    jsonschema.validate(DASHBOARD, SCHEMA)
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    assert json.dumps(DASHBOARD, indent=1) + "\n" == TEXT  # one form, so that changes are small


def test_panels_lie_side_by_side_in_24_columns() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_every_metric_that_is_asked_for_is_published() -> None:
    asked = {name for expression, _ in expressions() for name in re.findall(r"\bray_\w+", expression)}
    assert asked == set(EXPORTED)  # and nothing that is published is left out


@pytest.mark.parametrize(("expression", "legend"), expressions())
def test_labels_are_those_of_the_metric(expression: str, legend: str) -> None:
    known = ALWAYS.union(*(EXPORTED[name].keys for name in re.findall(r"\bray_\w+", expression)))
    used = {*re.findall(r"\{\{(\w+)\}\}", legend), *re.findall(r"[{,] *(\w+)=~?\"", expression)}
    used |= {label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(", ")}
    assert used <= known
    assert expression.count('{run=~"$run"}') == len(re.findall(r"\bray_\w+", expression))


def test_the_list_of_runs_is_asked_from_a_metric_of_every_run() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["run"]["query"]["query"] == "label_values(ray_raysplit_round, run)"
    assert variables["datasource"]["query"] == "prometheus"
