"""Text as windows of tokens: what a token is, whose a document is, which side it is on, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysplit.data.datasets import load_dataset
from raysplit.data.samples import DataSet

tokenizers = pytest.importorskip("tokenizers", reason="needs the extra hf")


def texts(folder: Path, **contents: str | bytes) -> str:
    for name, content in contents.items():
        (folder / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return "text:*.txt"


def load(folder: Path, name: str, **options: Any) -> DataSet:
    return load_dataset(name, root=str(folder), **options)


def rows(values: Any) -> list[list[int]]:
    return [*map(list, values.tolist())]


def test_windows_of_bytes_and_the_token_that_follows(tmp_path: Path) -> None:
    """The last fifth of each document is its test side; what fills no window is left out and told."""
    data = load(tmp_path, texts(tmp_path, a="abcdefghijkl", b="ABCDEFGH"), length=3, test_fraction=0.25)
    assert rows(data.train.x) == [[97, 98, 99], [100, 101, 102], [103, 104, 105], [65, 66, 67], [68, 69, 70]]
    assert rows(data.train.y)[0] == [98, 99, -100]
    assert rows(data.test.x) == [[106, 107, 108]]
    assert data.natural_owner is not None
    assert data.natural_owner.tolist() == ["a.txt", "a.txt", "a.txt", "b.txt", "b.txt"]
    assert data.test_owner is not None
    assert data.test_owner.tolist() == ["a.txt"]
    assert (data.num_classes, data.sizes) == (256, {"vocab_size": 256})
    assert data.train.x.dtype == torch.uint8  # type: ignore[union-attr]
    assert "2 tokens behind the last whole window left out" in data.done[0]
    assert data.inputs["x"].dtype == torch.int64
    assert rows(data.transform(data.train.take([0]).x, torch.Generator())) == [[97, 98, 99]]


def test_a_short_last_window_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    data = load(tmp_path, texts(tmp_path, a="abcdefgh", b="xy"), length=3, test_fraction=0.25, tail="keep")
    assert data.train.ragged["x"].lengths.tolist() == [3, 3, 2]
    batch = data.train.take([0, 2])
    assert rows(batch.x) == [[97, 98, 99], [120, 121, 0]]
    assert rows(batch.y) == [[98, 99, -100], [121, -100, -100]]
    assert data.train.y.tolist() == [98, 99, -100, 101, 102, -100, 121, -100]  # type: ignore[union-attr]


def test_characters_have_the_numbers_of_their_alphabet(tmp_path: Path) -> None:
    data = load(tmp_path, texts(tmp_path, a="cabä" * 10), tokens="characters", alphabet="abcä", length=4)
    assert rows(data.train.x)[0] == [2, 0, 1, 3]
    assert data.num_classes == 4


def test_tokens_of_a_file_of_the_tokenizers_library(tmp_path: Path) -> None:
    model = tokenizers.models.WordLevel({"?": 0, "red": 1, "blue": 2}, unk_token="?")
    words = tokenizers.Tokenizer(model)
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "words.json"))
    data = load(tmp_path, texts(tmp_path, a="red blue green " * 8), tokens="words.json", length=3, test_fraction=0.2)
    assert rows(data.train.x)[0] == [1, 2, 0]
    assert data.num_classes == 3


def test_documents_are_dealt_out_to_fewer_owners(tmp_path: Path) -> None:
    """The longest document first, each to the owner with the fewest tokens so far."""
    name = texts(tmp_path, a="a" * 40, b="b" * 30, c="c" * 20, d="d" * 10)
    data = load(tmp_path, name, length=5, owners=2, test_fraction=0.2)
    assert data.natural_owner is not None
    owner_of = dict(zip(np.asarray(data.train.x)[:, 0].tolist(), data.natural_owner.tolist(), strict=True))
    assert owner_of == {97: "0", 98: "1", 99: "1", 100: "0"}


def test_python_brings_a_text(tmp_path: Path) -> None:
    data = load(tmp_path, "text:python_topics", owners=4)
    assert len(data.train) > 5_000
    assert sorted(set(np.asarray(data.natural_owner).tolist())) == ["0", "1", "2", "3"]
    assert set(np.asarray(data.test_owner).tolist()) <= {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("contents", "options", "says"),
    [
        ({"a": ""}, {}, r"a\.txt is empty; give it some text"),
        ({"a": b"ab\xff" * 9}, {"tokens": "characters", "alphabet": "ab"}, r"a\.txt: byte 2 is not UTF-8; write"),
        (
            {"a": "aäz" * 9},
            {"tokens": "characters", "alphabet": "aä"},
            r"a\.txt: the character 'z' at byte 3 is not in data\.alphabet",
        ),
        ({"a": "ab"}, {"tokens": "characters"}, r"data\.alphabet is missing; set data\.alphabet to all characters"),
        ({"a": "ab"}, {"alphabet": "ab"}, "is bytes and data.alphabet is 'ab'; leave data.alphabet out"),
        ({"a": "ab"}, {"tokens": "characters", "alphabet": "aba"}, "has 'a' twice"),
        ({"a": "ab"}, {"tokens": "words"}, "data.tokens is 'words'; give bytes, characters, or the path"),
        ({"a": "ab"}, {"tokens": "words.json"}, "there is no tokenizer file .*words.json"),
        ({"a": "abc"}, {}, "no document has 64 tokens on its training side .the longest has 3."),
        ({"a": "a" * 80}, {}, "no document has 64 tokens on its test side .the longest has 8."),
        ({"a": "a" * 80}, {"owners": 2, "length": 4}, "data.owners is 2 and there are 1 documents; give at most 1"),
        ({}, {}, r"there is no file .*\*\.txt; give the path of a text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(contents: dict[str, Any], options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        load(tmp_path, texts(tmp_path, **contents), **options)
