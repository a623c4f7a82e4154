"""Files of matrices that fuzzing found to end in an error of a library, or in a message without the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysplit.schedulers.grouping.files import read_affinity, read_pair_losses


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n0,\x9f\n1,0\n", "cannot be read as CSV: 'utf-8' codec"),
        (b"a,a\n0,1\n1,0\n", "names the tasks 'a', 'a'; they must be distinct names"),
        (b"a,\n0,1\n1,0\n", "names the tasks 'a', ''; they must be distinct names"),
        (b"a,b\n0,inf\n1,0\n", "row 'a', column 'b' is inf; it must be finite"),
        (b"a,b\n0,1e999\n1,0\n", "row 'a', column 'b' is inf; it must be finite"),
        (b"a,b\n0,x\n1,0\n", "row 'a', column 'b' holds 'x', which is not a number"),
        (",".join(f"t{i}" for i in range(5_000)).encode() + b"\n1,2\n", "is not square: its header names 5000 tasks"),
        (b"a" * 200_000 + b",b\n1,2\n", "cannot be read as CSV: field larger than field limit"),
    ],
)
def test_a_mistake_has_the_file_and_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "matrix.csv"
    path.write_bytes(content)
    for read in (read_affinity, read_pair_losses):
        with pytest.raises(ValueError, match=r"matrix\.csv") as caught:
            read(path)
        assert type(caught.value) is ValueError
        assert message in str(caught.value)
        assert len(str(caught.value)) < 1_000


def test_a_folder_is_no_matrix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        read_affinity(tmp_path)
