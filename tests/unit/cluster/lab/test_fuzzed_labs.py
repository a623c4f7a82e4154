"""Whatever a lab file holds, it is read as it is written, or refused with the wrong key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from fuzzing import amounts, fuzz, read_or_refused
from hypothesis import strategies as st
from strategies.configurations import PIECES
from strategies.values import anything, texts

from raysplit.cluster.lab.machines import lab_from, read_lab, start_arguments

LAB = {
    "name": "farm",
    "port": 6390,
    "machines": {
        "head": {"cpus": 2},
        "pi_4": {"count": 3, "cpus": 1, "memory_gib": 0.5, "resources": {"camera": 1}, "labels": {"site": "north"}},
    },
}
PLACES = [
    ("name",),
    ("port",),
    ("object_store_mib",),
    ("machines",),
    ("machines", "head"),
    ("machines", "pi_4"),
    *(("machines", "pi_4", key) for key in ("count", "cpus", "gpus", "memory_gib", "resources", "labels")),
    ("machines", "pi_4", "resources", "camera"),
    ("machines", "pi_4", "labels", "site"),
]


@st.composite
def labs(draw: st.DrawFn) -> Any:
    """A lab as plain data, with a few values or keys changed."""
    tree: Any = copy.deepcopy(LAB)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(PLACES))
        node, value, key = tree, draw(anything), draw(texts)
        for step in above:
            node = node.get(step) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node[last if draw(st.integers(0, 4)) else key] = value
    return tree


@st.composite
def lab_texts(draw: st.DrawFn) -> str:
    text = yaml.safe_dump(LAB, sort_keys=False)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(PIECES) | texts) + text[at + draw(st.sampled_from([0, 1, 5])) :]
    return text


@amounts
def test_labs(share: float, record_property: Any) -> None:
    def check(tree: Any) -> None:
        lab = read_or_refused(lambda: lab_from(tree))
        if lab is None:
            return
        given = {str(kind): entry or {} for kind, entry in tree["machines"].items()}
        assert {machine.kind for machine in lab.machines} == set(given)
        for machine in lab.machines:
            assert machine.cpus == given[machine.kind].get("cpus", 1)
            assert all(isinstance(text, str) and "\0" not in text for text in start_arguments(lab, machine, Path("t")))

    fuzz(labs(), check, inputs=round(1_000 * share), record=record_property)


@amounts
def test_lab_files(share: float, record_property: Any, tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"

    def check(text: str) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        read_or_refused(lambda: read_lab(path))

    fuzz(lab_texts(), check, inputs=round(1_000 * share), record=record_property)
