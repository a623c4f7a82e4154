"""Values that settings and cells of tables do not expect: huge, empty, of another type, with control characters."""

from __future__ import annotations

import datetime
from typing import Any

from hypothesis import strategies as st

TEXTS = [
    "",
    " ",
    "a\0b",
    "a\ud800b",
    "[/x]y",
    "[red]a[/red]",
    "[link=x",
    ":car:",
    "..:x",
    ":",
    ":x",
    "x:",
    "nomodule:x",
    "os:nothing",
    "os:path",
    "given:x",
    "given:Experiment",
    "..",
    "../../x",
    "/",
    "~nobody/x",
    "$NOT_SET/x",
    "${NOT_SET}",
    "a" * 5_000,
    "é" * 300,
    "\n",
    "\u202ea",
    "auto",
    "null",
    "nan",
    "true",
    "5e-4",
    "10",
    "{}",
    "[]",
    "a.b",
    "a-b",
    "int",
    "str",
]
texts = st.sampled_from(TEXTS) | st.text(max_size=12)

NUMBERS = [0, -1, 1, 2, 10, 10**6, 10**9, 10**12, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 10**4_000]
numbers = st.sampled_from(NUMBERS) | st.integers(-3, 12)
floats = st.sampled_from(
    [0.0, -0.0, 0.5, -1.5, 1.0, 3.0, 1e-300, 1e9, 1e30, 1e308, float("inf"), float("-inf"), float("nan")]
)
others = st.sampled_from([datetime.date(2001, 1, 1), b"a", b"\xff", (1, 2), {1}, object, 1j])
scalars = st.none() | st.booleans() | numbers | floats | texts | others


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def _shared(levels: int) -> Any:
    """A value that is small in memory, and huge when it is written out, as nested anchors of YAML are."""
    value: Any = {"k": 1}
    for _ in range(levels):
        value = [value] * 9
    return value


MONSTERS = [
    lambda: _deep(40),
    lambda: _deep(400),
    lambda: _shared(6),
    lambda: [1] * 3_000,
    lambda: {f"key{i}": i for i in range(3_000)},
]
monsters = st.integers(0, len(MONSTERS) - 1).map(lambda number: MONSTERS[number]())
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | numbers, inner, max_size=3),
    max_leaves=6,
)
"""Plain values of any kind."""
anything = st.one_of(values, values, values, values, monsters)
"""Plain values of any kind, a fifth of them huge."""
