"""Strategies for data files: arrays as ``.npz`` and Parquet, folders of pictures, tables of labels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image

from strategies.tables import cells, damaged

TYPES = [
    "u1",
    "i1",
    "u2",
    "i4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    "?",
    "c8",
    "U3",
    "S2",
    "M8[s]",
    "O",
    ">i4",
    ">f8",
    "m8[s]",
]
SHAPES = [
    (12,),
    (12, 3),
    (12, 1, 4, 4),
    (12, 3, 4, 4),
    (12, 4, 4, 3),
    (12, 4, 4),
    (0, 3),
    (12, 0),
    (),
    (1, 3),
    (12, 2, 3, 4, 5),
]
EXTREMES = [np.nan, np.inf, -np.inf, -1, 300, 1e38, 1e300, 2**24 + 1, 2**62, 0.5]


@st.composite
def arrays(draw: st.DrawFn, *, labels: bool = False) -> np.ndarray:
    """An array of some type and shape, with a few extreme values."""
    shape = draw(st.sampled_from([(12,), (12,), (12,), (11,), (12, 1), (), (0,)] if labels else SHAPES))
    kind = draw(
        st.sampled_from(["i8", "i8", "u1", "f4"]) | st.sampled_from(TYPES) if labels else st.sampled_from(TYPES)
    )
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    plain = rng.integers(0, draw(st.sampled_from([2, 3, 200])), shape)
    values = plain.astype(float if np.dtype(kind).kind in "fc" else int)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        if values.size:
            with np.errstate(all="ignore"):
                extreme = np.array(draw(st.sampled_from(EXTREMES))).astype(values.dtype)
            values.reshape(-1)[draw(st.integers(0, values.size - 1))] = extreme
    with np.errstate(all="ignore"):
        return values.astype(kind)


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    """Columns of a data set by name, some missing or too many."""
    found: dict[str, Any] = {"x": draw(arrays()), "y": draw(arrays(labels=True))}
    if draw(st.booleans()):
        found["owner"] = draw(arrays(labels=True) | st.just(np.array(["a", "b", "c"] * 4)))
    if draw(st.integers(0, 2)) == 0:
        sides = ["train", "test", "train"] * 4
        sides[draw(st.integers(0, 11))] = draw(st.sampled_from(["train", "test", "val", "", "[/x]"]))
        found["split"] = np.array(sides)
    if draw(st.integers(0, 7)) == 0:
        found.pop(draw(st.sampled_from(sorted(found))))
    if draw(st.integers(0, 7)) == 0:
        found[draw(st.sampled_from(["X", "[/x]y", "z" * 300]))] = np.zeros(3)
    return found


@st.composite
def archives(draw: st.DrawFn) -> tuple[bytes, dict[str, Any] | None]:
    """The bytes of an ``.npz``, and its columns; None where it is damaged."""
    found = draw(columns())
    file = io.BytesIO()
    (np.savez if draw(st.booleans()) else np.savez_compressed)(file, **found)
    if draw(st.integers(0, 3)) == 0:
        return damaged(file.getvalue(), draw), None
    return file.getvalue(), found


def _column(values: Any, draw: st.DrawFn) -> pa.Array:
    def nested(rows: Any) -> Any:
        return rows.tolist() if isinstance(rows, np.ndarray) else rows

    rows = nested(np.atleast_1d(values))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
        if rows:
            rows[draw(st.integers(0, len(rows) - 1))] = draw(st.sampled_from([None, [], [[1]], float("nan"), "a"]))
    try:
        return pa.array(rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError, ValueError):
        return pa.array([str(row) for row in rows])


@st.composite
def parquets(draw: st.DrawFn) -> tuple[bytes, pa.Table | None]:
    """The bytes of a Parquet file of samples, and its table; None where it is damaged."""
    made = {name: _column(values, draw) for name, values in draw(columns()).items()}
    length = min((len(values) for values in made.values()), default=0)
    table = pa.table({name: values[:length] for name, values in made.items()})
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=draw(st.sampled_from([1, 5, 100])))
    if draw(st.integers(0, 3)) == 0:
        return damaged(file.getvalue(), draw), None
    return file.getvalue(), table


MODES = ["RGB", "L", "1", "P", "RGBA", "LA", "I", "F", "I;16", "CMYK"]


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """The bytes of a picture file, a few of them damaged or no picture."""
    mode = draw(st.sampled_from(["RGB"] * 20 + MODES))
    size = draw(st.sampled_from([(6, 6)] * 10 + [(5, 7), (1, 1)]))
    picture, file = Image.new(mode, size, draw(st.sampled_from([0, 1]))), io.BytesIO()
    kind = {"F": "TIFF", "CMYK": "JPEG", "LA": "PNG", "I": "TIFF"}.get(
        mode, draw(st.sampled_from(["PNG", "TIFF", "BMP"]))
    )
    try:
        picture.save(file, kind)
    except (OSError, ValueError):
        file = io.BytesIO()
        Image.new("RGB", size).save(file, "PNG")
    return damaged(file.getvalue(), draw) if draw(st.integers(0, 19)) == 0 else file.getvalue()


NAMES = [
    "a.png",
    "b.png",
    "c.tiff",
    "d/e.bmp",
    "../out.png",
    "/etc/hostname",
    "missing.png",
    "",
    "[/x].png",
    "a\0.png",
    ".",
]


@st.composite
def typed_tables(draw: st.DrawFn) -> bytes:
    """The bytes of a Parquet table of pictures and labels of any type."""
    made = {
        "image": pa.array([f"p{i % 8}.png" for i in range(12)])
        if draw(st.integers(0, 3))
        else _column(draw(arrays()), draw),
        **{name: _column(draw(arrays(labels=True)), draw) for name in ("kind", "color", "side")},
    }
    length = min(len(values) for values in made.values())
    file = io.BytesIO()
    pq.write_table(pa.table({name: values[:length] for name, values in made.items()}), file)
    return damaged(file.getvalue(), draw) if draw(st.integers(0, 5)) == 0 else file.getvalue()


@st.composite
def label_tables(draw: st.DrawFn) -> tuple[str, bytes]:
    """The kind and the bytes of a table of pictures and labels, whole or with cells, rows and columns changed.

    A quarter of them is damaged.
    """
    if draw(st.integers(0, 2)) == 0:
        return "parquet", draw(typed_tables())
    header = ["image", "kind", "color", "side"]
    rows = [[f"p{i}.png", "ab"[i % 2], "rgb"[i % 3], "train" if i % 4 else "test"] for i in range(8)]
    for _ in range(draw(st.sampled_from([0, 1, 2]))):
        row = draw(st.sampled_from(rows))
        at = draw(st.integers(0, 3))
        row[at] = draw(st.sampled_from(NAMES)) if at == 0 else draw(cells)
    if draw(st.integers(0, 4)) == 0:
        header[draw(st.integers(0, 3))] = draw(cells)
    if draw(st.integers(0, 4)) == 0:
        rows[draw(st.integers(0, 7))] = draw(st.lists(cells, max_size=6))
    lines = [header, *rows[: draw(st.sampled_from([8, 8, 8, 1, 0]))]]
    content = "\n".join(draw(st.sampled_from([",", ",", ",", ";"])).join(line) for line in lines).encode(
        "utf-8", "replace"
    )
    return "csv", damaged(content, draw) if draw(st.integers(0, 3)) == 0 else content
