"""Samples of different lengths: how they are stored, padded, divided and joined."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from raysplit.data.samples import Samples
from raysplit.data.sequences.ragged import Ragged, offsets_of

LENGTHS = [2, 1, 3]
IDS = torch.tensor([1, 2, 3, 4, 5, 6], dtype=torch.uint8)


def sentences(**rules: int) -> Samples:
    """Three sentences of 2, 1 and 3 tokens, with a tag for each token and a number for each sentence."""
    ids = Ragged(offsets=offsets_of(LENGTHS), pad=0, **rules)
    tags = Ragged(offsets=ids.offsets, pad=-100, **rules)
    x = {"ids": IDS, "number": torch.tensor([0.5, 1.5, 2.5])}
    return Samples(x=x, y=torch.arange(6), ragged={"ids": ids, "y": tags})


def rows(samples: Samples, name: str = "ids") -> list[list[int]]:
    assert not isinstance(samples.x, Tensor)
    return [*map(list, samples.x[name].tolist())]


def test_a_batch_is_padded_on_the_right_to_its_longest_sample() -> None:
    samples = sentences()
    assert len(samples) == 3
    batch = samples.take([2, 0])
    assert rows(batch) == [[4, 5, 6], [1, 2, 0]]
    assert batch.y.tolist() == [[3, 4, 5], [0, 1, -100]]  # type: ignore[union-attr]
    assert batch.x["number"].tolist() == [2.5, 0.5]  # type: ignore[index]
    assert rows(samples.take([1])) == [[3]]


def test_the_length_of_batches_is_fixed_or_rounded_up() -> None:
    assert rows(sentences(length=4).take([1])) == [[3, 0, 0, 0]]
    assert rows(sentences(multiple=2).take([2])) == [[4, 5, 6, 0]]


def test_a_subset_keeps_the_lengths() -> None:
    chosen = sentences().subset([2, 1])
    assert chosen.x["ids"].tolist() == [4, 5, 6, 3]  # type: ignore[index]
    assert chosen.ragged["ids"].lengths.tolist() == [3, 1]
    assert rows(chosen.take([1, 0])) == [[3, 0, 0], [4, 5, 6]]


def test_samples_travel_and_are_joined() -> None:
    samples = sentences()
    again = pickle.loads(pickle.dumps(samples))
    assert rows(again.take(range(3))) == rows(samples.take(range(3)))
    both = Samples.concatenated([samples.subset([1]), samples])
    assert rows(both.take(range(4))) == [[3, 0, 0], [1, 2, 0], [3, 0, 0], [4, 5, 6]]


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=8), data=st.data())
def test_padding_loses_and_invents_nothing(lengths: list[int], data: st.DataObject) -> None:
    """Against a loop over the samples, which is the plain way to write it."""
    flat = torch.arange(1, sum(lengths) + 1)
    ragged = Ragged(offsets=offsets_of(lengths), pad=0)
    one_by_one = [*torch.split(flat, lengths)]
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6))
    batch = ragged.padded(flat, torch.tensor(chosen))
    longest = max(1, *(lengths[i] for i in chosen), 0)
    assert batch.tolist() == [one_by_one[i].tolist() + [0] * (longest - lengths[i]) for i in chosen]
    part, own = ragged.subset(flat, torch.tensor(chosen))
    assert [piece.tolist() for piece in torch.split(part, own.lengths.tolist())] == [
        one_by_one[i].tolist() for i in chosen
    ]


@pytest.mark.parametrize(
    ("offsets", "says"),
    [
        ([1, 2], "that begin with 0"),
        ([0, 3, 2], "offsets fall from 3 to 2 after entry 1"),
        ([0.0, 1.0], "give int64"),
    ],
)
def test_wrong_offsets_are_refused(offsets: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Ragged(offsets=torch.tensor(offsets))


def test_offsets_that_do_not_fit_the_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="ids has 6 rows and its offsets end with 5; they must end with 6"):
        Samples(x={"ids": IDS}, y=torch.zeros(2).long(), ragged={"ids": Ragged(offsets=offsets_of([2, 3]))})
    with pytest.raises(ValueError, match="y has 2 entries and x\\['ids'\\] has 3"):
        Samples(x={"ids": IDS}, y=torch.zeros(2).long(), ragged={"ids": Ragged(offsets=offsets_of(LENGTHS))})
    with pytest.raises(ValueError, match="ragged names 'words', and inputs and targets are ids, y"):
        Samples(x={"ids": IDS}, y=torch.zeros(6).long(), ragged={"words": Ragged(offsets=offsets_of(LENGTHS))})
    with pytest.raises(ValueError, match="sample 2 has the length 3 and batches have the length 2"):
        sentences(length=2)
