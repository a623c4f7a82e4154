"""Samples are copied out whole, checked when made, and survive pickling without dragging the rest along."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from raysplit.data.domains import flip_labels
from raysplit.data.labels import NO_LABEL
from raysplit.data.partition.stratify import stratified_split
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.map_style import side_of
from raysplit.data.transforms import ToUnit


def _samples(num: int = 6) -> Samples:
    return Samples(x=torch.arange(num * 4, dtype=torch.uint8).view(num, 1, 2, 2), y=torch.arange(num) % 3)


def test_take_keeps_order_and_copies() -> None:
    whole = _samples()
    part = whole.take([4, 0])
    part.x[:] = 0
    assert whole.x[4].flatten().tolist() == [16, 17, 18, 19]
    assert part.y.tolist() == [1, 0]  # type: ignore[union-attr]
    assert part.x.untyped_storage().nbytes() == 8


@pytest.mark.parametrize("indices", [[1, 2], np.array([1, 2]), torch.tensor([1, 2])])
def test_take_accepts_lists_arrays_and_tensors(indices: list[int] | np.ndarray | torch.Tensor) -> None:
    assert _samples().take(indices).x[:, 0, 0, 0].tolist() == [4, 8]


def test_take_nothing_gives_an_empty_set() -> None:
    assert len(_samples().take([])) == 0


def test_many_tasks_are_taken_together() -> None:
    both = Samples(x=torch.rand(3, 2), y={"shape": torch.tensor([0, 1, 2]), "angle": torch.tensor([0.1, 0.2, 0.3])})
    part = both.take([2])
    assert {task: target.tolist() for task, target in part.y.items()} == {  # type: ignore[union-attr]
        "shape": [2],
        "angle": [pytest.approx(0.3)],
    }


@pytest.mark.parametrize(
    "samples",
    [
        _samples(),
        _samples(0),
        Samples(
            x=torch.rand(3, 2, dtype=torch.float64).t().reshape(3, 2), y={"a": torch.rand(3, 4), "b": torch.arange(3)}
        ),
        Samples(x=torch.rand(4, 3, 2).permute(0, 2, 1), y=torch.arange(4)),
    ],
)
def test_what_is_unpickled_is_what_was_pickled_and_may_be_written_to(samples: Samples) -> None:
    found: Samples = pickle.loads(pickle.dumps(samples))
    assert found.x.dtype == samples.x.dtype
    assert torch.equal(found.x, samples.x)
    here, there = (s.y if isinstance(s.y, dict) else {"y": s.y} for s in (samples, found))
    assert here.keys() == there.keys()
    assert all(torch.equal(here[task], there[task]) for task in here)
    found.x.zero_()
    assert pickle.loads(pickle.dumps(samples)).x.equal(samples.x)


def test_pickle_of_a_part_is_as_small_as_the_part() -> None:
    whole = Samples(x=torch.zeros(10_000, 100), y=torch.zeros(10_000, dtype=torch.int64))
    data = pickle.dumps(whole.take([1, 2, 3]))
    assert len(data) < 10_000
    assert torch.equal(pickle.loads(data).x, torch.zeros(3, 100))


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (torch.rand(3, 2), torch.tensor([0, 1]), "y has 2 entries and x has 3"),
        (torch.rand(3, 2), {"size": torch.tensor([0, 1])}, r"y\['size'\] has 2 entries"),
        (torch.rand(3, 2), torch.zeros(3, dtype=torch.int32), "class labels must be int64"),
        (torch.zeros(3, 2, dtype=torch.complex64), torch.tensor([0, 1, 2]), "x holds torch.complex64"),
    ],
)
def test_samples_that_do_not_fit_are_refused(x: torch.Tensor, y: torch.Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Samples(x=x, y=y)


def test_data_set_refuses_an_empty_side_and_odd_owners() -> None:
    with pytest.raises(ValueError, match="test set is empty"):
        _data_set(test=_samples().take([]))
    with pytest.raises(ValueError, match="2 owner ids for 6 training samples"):
        _data_set(natural_owner=np.array(["a", "b"]))


def _data_set(test: Samples | None = None, natural_owner: np.ndarray | None = None) -> DataSet:
    return DataSet(
        train=_samples(),
        test=_samples(2) if test is None else test,
        num_classes=3,
        input_shape=(1, 2, 2),
        transform=ToUnit(),
        eval_transform=ToUnit(),
        natural_owner=natural_owner,
    )


def test_split_holds_out_a_fifth_of_every_class() -> None:
    labels = np.repeat([0, 1, 2], [50, 10, 5])
    train, test = stratified_split(labels)
    assert np.bincount(labels[test]).tolist() == [10, 2, 1]
    assert sorted([*train, *test]) == list(range(65))
    assert np.array_equal(test, stratified_split(labels)[1])


def test_split_of_too_few_samples_says_so() -> None:
    with pytest.raises(ValueError, match="2 samples are too few"):
        stratified_split([0, 1])


def test_map_style_pairs_are_read_as_they_are() -> None:
    pairs = [(torch.full((1, 2, 2), float(i)), torch.tensor(i)) for i in range(3)]
    side = side_of(pairs, "mine")
    assert side.x[:, 0, 0, 0].tolist() == [0, 1, 2]  # type: ignore[index]
    assert side.y.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([(np.zeros(2), 0), (np.zeros(3), 1)], "differ in shape"),
        ([(np.zeros(2), 0.0)], r"a label is 0\.0 \(float\)"),
        ([(np.zeros(2), None)], "a label is None"),
        ([(np.zeros(2), 0, 1)], "an item is not a pair"),
    ],
)
def test_odd_map_style_sets_are_refused(pairs: list[tuple[object, ...]], says: str) -> None:
    with pytest.raises(ValueError, match=f"mine: .*{says}"):
        side_of(pairs, "mine")


def test_label_noise_changes_exactly_the_asked_share_to_other_classes() -> None:
    clean = Samples(x=torch.zeros(1000, 1), y=torch.arange(1000) % 10)
    noisy = flip_labels(clean, fraction=0.3, num_classes=10, seed=1, owner=2)
    changed = noisy.y != clean.y  # type: ignore[operator]
    assert int(changed.sum()) == 300
    shift = (noisy.y - clean.y)[changed] % 10  # type: ignore[operator]
    assert torch.bincount(shift, minlength=10)[0] == 0
    assert torch.bincount(shift, minlength=10)[1:].min() >= 15  # uniform over 9 others: 33 each
    assert clean.y.tolist() == [i % 10 for i in range(1000)]  # type: ignore[union-attr]


def test_label_noise_is_keyed_by_seed_and_owner() -> None:
    clean = Samples(x=torch.zeros(100, 1), y=torch.zeros(100, dtype=torch.int64))

    def noisy(seed: int, owner: int) -> list[int]:
        return flip_labels(clean, fraction=0.5, num_classes=3, seed=seed, owner=owner).y.tolist()  # type: ignore

    assert noisy(1, 0) == noisy(1, 0)
    assert noisy(1, 0) != noisy(1, 1)
    assert noisy(1, 0) != noisy(2, 0)


def test_label_noise_flips_the_labels_of_every_task() -> None:
    """With several labels per sample the option was refused, and an owner could have no noise."""
    tasks = {"shape": 3, "color": 2}
    clean = Samples(x=torch.zeros(60, 1), y={task: torch.arange(60) % count for task, count in tasks.items()})
    noisy = flip_labels(clean, fraction=0.5, num_classes=tasks, seed=1, owner=0)
    changed = {task: noisy.y[task] != clean.y[task] for task in tasks}
    assert [int(rows.sum()) for rows in changed.values()] == [30, 30]
    assert not torch.equal(changed["shape"], changed["color"])  # drawn for each task by itself
    assert all(int(noisy.y[task].max()) < count for task, count in tasks.items())


def test_label_noise_leaves_missing_labels_missing() -> None:
    """The mark of a missing label was shifted like a label, and became a class."""
    clean = Samples(x=torch.zeros(40, 1), y=torch.where(torch.arange(40) % 2 == 0, NO_LABEL, 1))
    noisy = flip_labels(clean, fraction=0.5, num_classes=3, seed=1, owner=0)
    assert isinstance(noisy.y, torch.Tensor)
    assert noisy.y[::2].tolist() == [NO_LABEL] * 20
    assert int((noisy.y[1::2] != 1).sum()) == 10


def test_label_noise_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fraction 1\.5"):
        flip_labels(_samples(), fraction=1.5, num_classes=3, seed=0, owner=0)
