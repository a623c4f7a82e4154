"""Strategies for files: broken bytes of any file, and matrices and tables as CSV."""

from __future__ import annotations

import csv
import io

from hypothesis import strategies as st

CELLS = [
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1",
    "-0.5",
    "1,5",
    "1_0",
    "0x1",
    "٣",
    "true",
    "[/x]y",
    "a" * 200,
    "\0",
]
cells = st.sampled_from(CELLS) | st.text(max_size=4)


def damaged(content: bytes, draw: st.DrawFn) -> bytes:
    """Return a file that was cut short, has flipped bits, lost or gained bytes, or is another file altogether."""
    what = draw(st.integers(0, 9))
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    if what < 3:
        return content[:at]
    if what < 7 and content:
        changed = bytearray(content)
        for _ in range(draw(st.integers(1, 8))):
            changed[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
        return bytes(changed)
    if what == 7:
        return content[:at] + draw(st.binary(max_size=20)) + content[at:]
    if what == 8:
        return content[:at] + content[at + draw(st.integers(1, 50)) :]
    return draw(st.sampled_from([b"", b"\0" * 100, b"PK\x03\x04", b"PAR1PAR1", b"\xff\xfe", b"\x93NUMPY"]))


@st.composite
def matrices(draw: st.DrawFn) -> str:
    """A CSV matrix of tasks, whole or with cells, rows, columns and names changed."""
    size = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 9, 17, 40]))
    names = draw(st.just([f"task{i}" for i in range(size)]) | st.lists(cells, min_size=size, max_size=size))
    rows = [[f"{(i * 7 + j * 3) % 11 / 10}" for j in range(size)] for i in range(size)]
    for _ in range(draw(st.integers(0, 3))):
        rows[draw(st.integers(0, size - 1))][draw(st.integers(0, size - 1))] = draw(cells)
    lines = [["", *names], *([name, *row] for name, row in zip(names, rows, strict=True))]
    if draw(st.booleans()):
        lines = [line[1:] for line in lines]
    if draw(st.integers(0, 2)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), draw(st.lists(cells, max_size=size + 2)))
    if draw(st.integers(0, 2)) == 0:
        lines.pop(draw(st.integers(0, len(lines) - 1)))
    text = io.StringIO(newline="")
    csv.writer(text, escapechar="\\").writerows(lines)
    return text.getvalue()


@st.composite
def matrix_files(draw: st.DrawFn) -> bytes:
    """The bytes of a matrix of tasks, a quarter of them damaged."""
    content = draw(matrices()).encode("utf-8", "surrogatepass")
    return damaged(content, draw) if draw(st.integers(0, 3)) == 0 else content
