"""Whatever a matrix of tasks holds, it is read as it is written, or refused with its name."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from fuzzing import amounts, fuzz, read_or_refused
from strategies.tables import matrix_files

from raysplit.schedulers.grouping.files import read_affinity, read_pair_losses
from raysplit.schedulers.grouping.scores import exact_x


@amounts
def test_matrices(share: float, record_property: Any, tmp_path: Path) -> None:
    path = tmp_path / "matrix.csv"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        for read in (read_affinity, read_pair_losses):
            found = read_or_refused(lambda read=read: read(path), "matrix.csv")
            if found is None:
                continue
            numbers = {
                float(cell) for line in csv.reader(path.open(encoding="utf-8-sig")) for cell in line if is_float(cell)
            }
            assert {value for row in found.values for value in row} <= numbers | {0.0}
        if found is not None:
            read_or_refused(lambda: exact_x(read_affinity(path), min(2, len(found.tasks))))

    fuzz(matrix_files(), check, inputs=round(2_000 * share), record=record_property)


def is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
