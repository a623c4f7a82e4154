"""What an array becomes: pixels, numbers or ids, with the channels in front; labels from 0; and errors that say how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from raysplit.data.labels import NO_LABEL, has_target, numbered
from raysplit.data.reading import Reading, read_inputs
from raysplit.data.targets.arrays import num_outputs, read_targets


def read(x: Any, **settings: Any) -> torch.Tensor:
    return read_inputs(np.asarray(x), "mine", Reading(**settings)).values


def test_byte_pictures_stay_bytes_and_are_scaled_by_the_transform() -> None:
    found = read_inputs(np.full((2, 4, 5), 7, np.uint8), "mine")
    assert (found.values.dtype, tuple(found.values.shape)) == (torch.uint8, (2, 1, 4, 5))
    assert found.done == "x: uint8 [4, 5], pixels, divided by 255, one channel added"


def test_a_table_of_bytes_is_no_picture() -> None:
    """A table and token ids as uint8 were divided by 255, so that a network saw next to nothing."""
    table = np.array([[3, 0], [2, 200]], np.uint8)
    with pytest.raises(ValueError, match=r"may be pixels, a table or ids; set data\.values to pixels"):
        read(table)
    assert read(table, values="numbers").tolist() == [[3, 0], [2, 200]]
    assert read(table, values="ids").dtype == torch.int64
    assert read(table, values="pixels").dtype == torch.uint8


@pytest.mark.parametrize(("dtype", "white"), [(np.uint16, 65535), (bool, 1)])
def test_pixels_are_scaled_by_the_range_of_their_type(dtype: Any, white: int) -> None:
    x = np.zeros((1, 2, 2), dtype)
    x[0, 0, 0] = white
    assert read(x, values="pixels").tolist() == [[[[1.0, 0.0], [0.0, 0.0]]]]


def test_pixels_of_wide_integers_need_their_largest_value() -> None:
    """Pixels in a Parquet file are int64; they reached the network as 0 to 255, and the first loss was 362."""
    x = np.array([[0, 51, 255]])
    assert read(x).tolist() == [[0, 51, 255]]  # as before; the record warns
    assert read(x, max_value=255).tolist() == [[0, pytest.approx(0.2), 1]]
    with pytest.raises(ValueError, match=r"int64, which has no largest pixel.*the largest value is 255; set data\.max"):
        read(x, values="pixels")
    with pytest.raises(ValueError, match=r"holds pixels from 0 to 255 and the largest value is 100"):
        read(x, max_value=100)


def test_ids_beyond_the_exact_range_of_floats_are_not_merged() -> None:
    """400 ids around 2**25 became 101 different numbers in float32."""
    x = 2**25 + np.arange(400).reshape(40, 10)
    with pytest.raises(ValueError, match=r"whole numbers beyond 16777216, which float32 merges .*data\.values: ids"):
        read(x)
    assert len(read(x, values="ids").unique()) == 400
    with pytest.raises(ValueError, match="float32 merges"):
        read(x.astype(np.float64))
    for kind in (np.int32, np.int64, np.uint32, np.uint64):  # the largest was cast with numpy's warning alone
        with pytest.raises(ValueError, match=r"float32 merges \(the first in row 1\)"):
            read(np.array([[1], [np.iinfo(kind).max]], kind))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([[1.5]]), "with fractions or NaN, and data.values is ids"),
        (np.array([[0], [-3]]), "holds the id -3 in row 1"),
    ],
)
def test_what_is_no_id_is_refused(x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(x, values="ids")


@pytest.mark.parametrize(
    ("shape", "turned"),
    [
        ((3, 8, 8), (3, 8, 8)),
        ((8, 8, 3), (3, 8, 8)),
        ((8, 8, 4), (4, 8, 8)),  # was taken for 8 channels of 8 x 4
        ((4, 8, 8), (4, 8, 8)),
        ((13, 8, 8), (13, 8, 8)),
        ((5, 7, 1), (1, 5, 7)),
    ],
)
def test_channels_are_found_by_shape(shape: tuple[int, ...], turned: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 255, (2, *shape)).astype(np.uint8)
    found = read(x)
    assert tuple(found.shape[1:]) == turned
    moved = x if shape == turned else x.transpose(0, 3, 1, 2)
    assert np.array_equal(found.numpy(), moved)


@pytest.mark.parametrize("shape", [(8, 8, 8), (3, 3, 3), (13, 5, 7), (2, 6, 4)])
def test_an_ambiguous_layout_is_asked_for(shape: tuple[int, ...]) -> None:
    x = np.zeros((2, *shape), np.uint8)
    with pytest.raises(ValueError, match=r"set data\.layout to channels_first \(\d+ channels, kept"):
        read(x)
    assert tuple(read(x, layout="channels_first").shape[1:]) == shape
    assert tuple(read(x, layout="channels_last").shape[1:]) == (shape[2], *shape[:2])


def test_floats_that_look_channels_last_are_asked_for() -> None:
    """Floats [N, 8, 8, 3] stayed as they were: 8 channels of 8 x 3."""
    x = np.zeros((2, 8, 8, 3), np.float32)
    with pytest.raises(ValueError, match=r"set data\.layout"):
        read(x)
    assert tuple(read(x, layout="channels_last").shape) == (2, 3, 8, 8)
    assert tuple(read(x, layout="channels_first").shape) == (2, 8, 8, 3)


def test_numbers_that_are_none_are_named_with_their_row() -> None:
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 of 3 samples, the first in row 2"):
        read([[1.0], [2.0], [np.nan]])
    with pytest.raises(ValueError, match=r"beyond the range of float32 in row 0"):
        read([[1e300], [2.5]])
    with pytest.raises(ValueError, match=r"data\.max_value is 255 and data\.values is ids"):
        Reading(values="ids", max_value=255)
    with pytest.raises(ValueError, match="above 0"):
        Reading(max_value=-1)


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        ([1, 4, 2, 1], [0, 2, 1, 0], ("1", "2", "4")),
        ([-1, 1, 1, -1], [0, 1, 1, 0], ("-1", "1")),
        (["dog", "cat", "cat", "eel"], [1, 0, 0, 2], ("cat", "dog", "eel")),
        ([0.0, 2.0, 2.0, 0.0], [0, 1, 1, 0], ("0", "2")),
    ],
)
def test_labels_are_numbered_on_demand(labels: list[Any], codes: list[int], names: tuple[str, ...]) -> None:
    found = numbered([np.array(labels)], [4], "mine", renumber=True)
    assert (found.sides[0].tolist(), found.names) == (codes, names)


def test_both_sides_are_numbered_together() -> None:
    found = numbered([np.array([5, 9]), np.array([7])], [2, 1], "mine", renumber=True)
    assert [side.tolist() for side in found.sides] == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0.0, 1.0, np.nan],
            r"y is nan in row 2 \(owner c\); give every sample a label",
        ),  # it showed three good values
        ([0, 1, -1], r"y is -1 in row 2 \(owner c\); .*data\.renumber_labels: true"),
        ([0, 1, 10**9], r"y is 1000000000 in row 2 \(owner c\); that many classes"),
        ([0.0, 0.5, 0.25], r"y is 0\.5 in row 1 \(owner b\), and 1 more like it"),
        (["a", "", "b"], r"y is '' in row 1 \(owner b\)"),
        (["a", "c", "b"], r"y holds text such as 'a'; set data\.renumber_labels: true"),
        ([[0], [1], [2]], r"y has shape \(3, 1\)"),
    ],
)
def test_a_wrong_label_is_shown_with_row_and_owner(labels: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        numbered([np.array(labels)], [3], "mine", owner=np.array(["a", "b", "c"]))


@pytest.mark.parametrize("renumber", [False, True])
def test_labels_may_be_missing_where_a_task_says_what_they_are(renumber: bool) -> None:
    """The pages promise -100 for a class that is not known; files with it were refused, or it became a class."""
    found = numbered([np.array([1, NO_LABEL, 0])], [3], "mine", renumber=renumber, missing=NO_LABEL)
    assert found.sides[0].tolist() == [1, NO_LABEL, 0]
    assert found.names == (("0", "1") if renumber else None)
    with pytest.raises(ValueError, match=r"mine: shape is -1 in row 1; .* 0..C-1, -100 where there is none, or set"):
        numbered([np.array([1, -1, 0])], [3], "mine", name="shape", missing=NO_LABEL)


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        ("multi_label", [[0, 1], [1, 0], [2, 1]], r"mine: marks of owner c, row 2, position 0: 2; labels are 0 or 1"),
        ("regression", [0.5, np.inf, np.inf], r"mine: marks of owner b, row 1: inf; numbers are finite"),
        (
            "token_classification",
            [[0, 1], [-7, 0], [2, 1]],
            r"marks of owner b, row 1, position 0: -7; classes are 0..2",
        ),
        ("segmentation", [0, 1, 2], r"mine: marks is int64 of shape \[3\], and segmentation .*; task: classification"),
        ("classification", [[0, 1], [1, 0], [2, 1]], r"marks is int64 of shape \[3, 2\], and classification takes one"),
        ("classification", [0.5, 1.5, 1.0], r"marks is 0.5 in row 0 \(owner a\), .* task: regression takes numbers"),
        (
            "regression",
            ["a", "b", "c"],
            r"marks holds <U1, such as \['a'\]; give numbers, or take task: classification",
        ),
    ],
)
def test_a_wrong_target_is_shown_with_the_row_of_the_file_and_its_owner(kind: str, y: Any, message: str) -> None:
    """Targets other than labels were checked once they were divided: "y of owner-0, row 0", whatever row it was."""
    owner = np.array(["a", "b", "c"])
    with pytest.raises(ValueError, match=message):
        read_targets([np.array(y)], [3], "mine", Reading(task=kind), owner, name="marks")


def test_the_class_that_does_not_count_is_none_of_the_others() -> None:
    """Files with it were refused where it is negative, and had an output for it and for all below where it is large."""
    labels = read_targets([np.array([1, -1, 0])], [3], "mine", Reading(task="classification", ignore_index=-1))
    assert labels.sides[0].tolist() == [1, -1, 0]
    masks = np.full((2, 3, 3), 200)
    masks[0, 0] = 4
    reading = Reading(tasks=(("place", "segmentation"),), ignored=(("place", 200),)).of("place")
    (read,) = read_targets([masks], [2], "mine", reading).sides
    assert num_outputs([read], "segmentation", ignore_index=200) == 5
    assert num_outputs([torch.full((2, 3, 3), 255)], "segmentation") == 1  # nothing counts: 'int' is not iterable


def test_samples_without_a_target_are_known() -> None:
    assert has_target(torch.tensor([0, NO_LABEL, 2])).tolist() == [True, False, True]
    nan = float("nan")
    assert has_target(torch.tensor([[nan, 1.0], [nan, nan]])).tolist() == [True, False]
    assert has_target(torch.tensor([[0, 0], [0, 3]], dtype=torch.uint8)).tolist() == [False, True]
