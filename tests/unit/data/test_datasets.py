"""Data sets by name; torchvision's sets are written here in miniature, in the layout torchvision reads."""

from __future__ import annotations

import bz2
import pickle
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch
from torch import Tensor

from raysplit.data.datasets import _bundled_digits, dataset_names, load_dataset
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import Compose, Normalise, RandomCrop, RandomHorizontalFlip, ToUnit


def _mnist_files(root: Path, train: int = 20, test: int = 10) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, num in (("train", train), ("t10k", test)):
        images, labels = np.arange(num, dtype=np.uint8)[:, None, None], np.arange(num, dtype=np.uint8) % 10
        images = np.broadcast_to(images, (num, 28, 28))
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, num, 28, 28) + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, num) + labels.tobytes())


def _cifar_files(root: Path, keys: tuple[str, str] = ("data", "labels")) -> None:
    """Rebuilt batches: right content, other bytes than the published pickles, so their md5 is not the known one."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    red = np.zeros((2, 3, 32, 32), np.uint8)
    red[:, 0] = 255
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps({keys[0]: red.reshape(2, 3072), keys[1]: [3, 9]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))


def test_digits_are_those_of_scikit_learn_to_the_bit() -> None:
    """The file is read beside the installed package, without its loader, whose import takes seconds."""
    bundled = sklearn.datasets.load_digits()
    table = _bundled_digits()
    assert np.array_equal(table[:, :-1].reshape(-1, 8, 8), bundled.images)
    assert np.array_equal(table[:, -1].astype(int), bundled.target)
    assert table.dtype == bundled.images.dtype


def test_digits_come_from_the_loader_where_the_file_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    read = _bundled_digits()
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert np.array_equal(_bundled_digits(), read)


def test_digits_are_the_offline_default() -> None:
    data = load_dataset("digits")
    assert (len(data.train), len(data.test), data.num_classes, data.input_shape) == (1438, 359, 10, (1, 8, 8))
    assert isinstance(data.test.y, Tensor)
    assert torch.bincount(data.test.y).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    x = data.transform(data.train.x, torch.Generator())
    assert (x.dtype, x.min().item(), x.max().item()) == (torch.float32, -1.0, 1.0)
    assert torch.equal(data.train.x, load_dataset("digits").train.x)


def test_random_is_balanced_seeded_and_learnable() -> None:
    data = load_dataset("random", num_classes=4, num_samples=200, dim=16, seed=3)
    assert isinstance(data.train.y, Tensor)
    assert isinstance(data.test.y, Tensor)
    assert (data.input_shape, torch.bincount(data.train.y).tolist()) == ((16,), [40] * 4)
    means = torch.stack([data.train.x[data.train.y == label].mean(0) for label in range(4)])
    assert (torch.cdist(data.test.x, means).argmin(1) == data.test.y).float().mean() > 0.9
    assert torch.equal(data.train.x, load_dataset("random", num_classes=4, num_samples=200, dim=16, seed=3).train.x)
    assert load_dataset("random", input_shape=(3, 4, 4)).input_shape == (3, 4, 4)


def test_names_hold_torchvisions_classification_sets_and_not_its_detection_sets() -> None:
    names = dataset_names()
    assert {"digits", "random", "MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST"} <= set(names)
    assert {"CIFAR10", "CIFAR100", "SVHN", "USPS"} <= set(names)
    assert not {"VOCDetection", "CocoCaptions", "Kinetics", "VisionDataset", "LSUNClass"} & set(names)


def test_mnist_is_read_from_its_root_as_bytes(tmp_path: Path) -> None:
    _mnist_files(tmp_path)
    data = load_dataset("MNIST", root=str(tmp_path))
    assert (data.train.x.shape, data.train.x.dtype, data.num_classes) == ((20, 1, 28, 28), torch.uint8, 10)
    assert data.train.x[7].unique().tolist() == [7]
    assert data.test.y.tolist() == list(range(10))  # type: ignore[union-attr]
    assert data.transform == Compose(steps=(ToUnit(), Normalise(mean=(0.5,), std=(0.5,)))) == data.eval_transform


def test_options_reach_the_class_and_unknown_ones_are_named(tmp_path: Path) -> None:
    _mnist_files(tmp_path)
    with pytest.raises(ValueError, match="MNIST has no option 'fold'"):
        load_dataset("MNIST", root=str(tmp_path), fold=3)
    with pytest.raises(ValueError, match=r"EMNIST: .*'split'; give it as an option"):
        load_dataset("EMNIST", root=str(tmp_path))
    with pytest.raises(ValueError, match="EMNIST is not under"):
        load_dataset("EMNIST", root=str(tmp_path), split="balanced")


def test_missing_files_say_where_to_put_them_and_that_download_can_be_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"MNIST is not under {tmp_path} .*put the files there.*download: true"):
        load_dataset("MNIST", root=str(tmp_path))
    with pytest.raises(ValueError, match="CIFAR10 is read from a local folder and no root is given"):
        load_dataset("CIFAR10")


def test_empty_files_of_a_set_are_broken_and_not_missing(tmp_path: Path) -> None:
    _mnist_files(tmp_path)
    for file in (tmp_path / "MNIST" / "raw").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"MNIST: {tmp_path}\S+-ubyte is broken or may not be read"):
        load_dataset("MNIST", root=str(tmp_path))
    with pytest.raises(ValueError, match=r"EMNIST, .*Unknown value 'half' for argument split"):
        load_dataset("EMNIST", root=str(tmp_path), split="half")


def test_rebuilt_cifar_batches_are_accepted_and_augmented(tmp_path: Path) -> None:
    _cifar_files(tmp_path)
    data = load_dataset("CIFAR10", root=str(tmp_path))
    assert (data.train.x.shape, data.test.x.shape) == ((10, 3, 32, 32), (2, 3, 32, 32))
    assert data.train.x[0].flatten(1).float().mean(1).tolist() == [255, 0, 0]
    normalise = Normalise(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
    crop_and_flip = (RandomCrop(padding=4), RandomHorizontalFlip(probability=0.5))
    assert data.transform == Compose(steps=(ToUnit(), *crop_and_flip, normalise))
    assert data.eval_transform == Compose(steps=(ToUnit(), normalise))
    assert load_dataset("CIFAR10", root=str(tmp_path), augment=False).transform == data.eval_transform


def test_cifar_batches_without_their_keys_are_refused(tmp_path: Path) -> None:
    _cifar_files(tmp_path, keys=("pixels", "labels"))
    with pytest.raises(ValueError, match=r"CIFAR10, .*data_batch_1: data must be an array .* got NoneType"):
        load_dataset("CIFAR10", root=str(tmp_path))


def test_usps_may_lie_in_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "USPS").mkdir()
    row = " ".join(f"{pixel}:{value}" for pixel, value in enumerate([-1.0] * 128 + [1.0] * 128, start=1))
    for name in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / "USPS" / name).write_bytes(bz2.compress(f"3 {row}\n10 {row}\n".encode()))
    data = load_dataset("USPS", root=str(tmp_path))
    assert (data.input_shape, data.train.y.tolist()) == ((1, 16, 16), [2, 9])  # type: ignore[union-attr]
    assert data.train.x[0, 0, :, 0].tolist() == [0] * 8 + [255] * 8


def test_folders_of_images_are_resized_and_split_by_class(tmp_path: Path) -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(5):
            Image.new("RGB", (6 + i, 5), color=(255, 0, 0)).save(tmp_path / label / f"{i}.png")
    with pytest.raises(ValueError, match=r"ImageFolder: inputs differ in shape.*image_size"):
        load_dataset("ImageFolder", root=str(tmp_path))
    data = load_dataset("ImageFolder", root=str(tmp_path), image_size=4)
    assert (len(data.train), len(data.test), data.input_shape, data.num_classes) == (8, 2, (3, 4, 4), 2)


@pytest.fixture
def user_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("user_data")
    monkeypatch.setitem(sys.modules, "user_data", module)
    return module


def test_a_users_function_gives_sets_samples_or_a_data_set(user_module: Any) -> None:
    pairs = [(np.full((2,), float(i)), i) for i in range(4)]
    samples = Samples(x=torch.rand(3, 2), y=torch.tensor([0, 1, 2]))
    user_module.sets = lambda n: (pairs[:n], pairs[n:])
    user_module.samples = lambda: (samples, samples)
    user_module.whole = lambda: load_dataset("random", dim=2)
    data = load_dataset("user_data:sets", n=3)
    assert (len(data.train), len(data.test), data.num_classes, data.input_shape) == (3, 1, 4, (2,))
    assert load_dataset("user_data:samples").train is samples
    assert isinstance(load_dataset("user_data:whole"), DataSet)


def test_a_users_function_that_goes_wrong_is_named(user_module: Any) -> None:
    user_module.alone = lambda: [1, 2, 3]
    user_module.unequal = lambda: ([(np.zeros(2), 0)], [(np.zeros(3), 0)])
    for path, says in {
        "user_data:alone": "user_data:alone returned 3 values",
        "user_data:unequal": "training inputs have shape",
        "user_data:gone": r"has no name 'gone'; .*\(it has alone, unequal\)",
        "no_such_module_at_all:f": "data set 'no_such_module_at_all:f': there is no module 'no_such_module_at_all'",
    }.items():
        with pytest.raises(ValueError, match=says):
            load_dataset(path)
    with pytest.raises(ValueError, match=r"data set user_data:alone: .*'n'"):
        load_dataset("user_data:alone", n=3)


def test_unknown_names_get_the_nearest_and_the_list() -> None:
    with pytest.raises(
        ValueError, match=r"unknown data set 'fashion_mnist'; did you mean 'FashionMNIST'\? \(one of digits, "
    ):
        load_dataset("fashion_mnist")
    with pytest.raises(ValueError, match=r"unknown data set 'qqqqqq' \(one of"):
        load_dataset("qqqqqq")
