"""Weights in the files of a folder, of which a party reads those of its own parts alone.

An `Outline` is a model whose weights are still in the files: they are on the meta device, where tensors have shapes and
no values. It can be traced and cut, and a part of it is then filled with what it holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.models.adapters.weights import SUFFIX, digest

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class FolderWeights:
    """What the files of a folder hold, as the process that started a run has found it.

    Attributes:
        path: the folder, which every place must be able to read.
        digests: digest of each tensor by its key in the files.
        infinite: keys of tensors with infinite values.
    """

    path: str
    digests: tuple[tuple[str, str], ...]
    infinite: frozenset[str] = frozenset()

    @classmethod
    def of(cls, path: str) -> FolderWeights:
        """Describe a folder. Raises ``ValueError`` for one whose files cannot be read."""
        whole = Path(path).resolve()
        return _described(str(whole), tuple((str(file), file.stat().st_mtime_ns) for file in _files(whole)))


@lru_cache(maxsize=4)
def _described(path: str, files: tuple[tuple[str, int], ...]) -> FolderWeights:
    """Describe a folder whose files were last written at these times."""
    digests, infinite = {}, set()
    for key, file in keys_of(Path(path)).items():
        value = read_tensor(file, key)
        digests[key] = digest({key: value})
        if value.is_floating_point() and bool(torch.isinf(value).any()):
            infinite.add(key)
    return FolderWeights(path=path, digests=tuple(sorted(digests.items())), infinite=frozenset(infinite))


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: the file, its key there, and the type to which the library converts it."""

    file: str
    key: str
    dtype: torch.dtype


class Outline:
    """A model whose weights are in files.

    Args:
        model: the model, with what is in files on the meta device.
        places: where each of these tensors lies, by every name that it has in the state of the model.
        described: what the files must hold; None where nobody has said it.
    """

    def __init__(self, model: nn.Module, places: Mapping[str, Place], described: FolderWeights | None) -> None:
        self.model = model
        self._places = places
        self._digests = {} if described is None else dict(described.digests)
        self._infinite = frozenset() if described is None else described.infinite

    def read(self, name: str) -> Tensor:
        """Read one tensor of the model. Raises ``ValueError`` where it is another than where the run was started."""
        place = self._places[name]
        value = read_tensor(place.file, place.key)
        expected = self._digests.get(place.key)
        if expected is not None and digest({place.key: value}) != expected:
            raise ValueError(
                f"{place.key!r} in {place.file} has other values here than where the run was started; copy the folder "
                f"to every machine"
            )
        return value.to(place.dtype)

    def is_infinite(self, name: str) -> bool:
        """Whether a tensor in the files has infinite values."""
        return self._places[name].key in self._infinite

    def fill(self, module: nn.Module) -> nn.Module:
        """Read what a module lacks, in place, and return it."""
        return fill(module, lambda name, _: self.read(name))


def fill(module: nn.Module, value_of: Callable[[str, Tensor], Tensor]) -> nn.Module:
    """Replace the tensors of a module on the meta device by values for names and tensors, in place; return it.

    Tied weights stay one tensor.
    """
    made: dict[int, Tensor] = {}
    for path, child in module.named_modules(remove_duplicate=False):
        for kind in (child._parameters, child._buffers):
            held: dict[str, Any] = kind
            for key, own in held.items():
                if own is None or not own.is_meta:
                    continue
                if id(own) not in made:
                    value = value_of(f"{path}.{key}".lstrip("."), own).to(own.dtype)
                    is_weight = isinstance(own, nn.Parameter)
                    made[id(own)] = nn.Parameter(value, requires_grad=own.requires_grad) if is_weight else value
                held[key] = made[id(own)]
    return module


def keys_of(folder: Path) -> dict[str, str]:
    """Return the file of each key in a folder: of its one file, or else of those that its index names.

    Raises:
        ValueError: for files that are missing or cannot be read.
    """
    found = {}
    for file in _files(folder):
        with _opened(str(file)) as opened:
            found.update(dict.fromkeys(opened.keys(), str(file)))
    return found


def _files(folder: Path) -> list[Path]:
    if (folder / WHOLE).is_file():  # in the order of transformers; other files beside it are not the model
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        return sorted(folder.glob(f"*{SUFFIX}"))
    listed = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
    files = [folder / name for name in sorted(set(listed.values()))]
    for file in files:
        if not file.is_file():
            raise ValueError(f"{folder / INDEX} names the file {file.name}, and there is none in the folder")
    return files


def form_of(file: str, key: str) -> Tensor:
    """Return a tensor of the shape and type of one in a file, which takes the memory of one number."""
    with _opened(file) as opened:
        found = opened.get_slice(key)
        shape, dtype = found.get_shape(), opened.get_slice(key).get_dtype()
        return torch.zeros((), dtype=_DTYPES[dtype]).expand(shape)


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_tensor(file: str, key: str) -> Tensor:
    """Read one tensor of a file."""
    with _opened(file) as opened:
        value: Tensor = opened.get_tensor(key)
        return value


def _opened(file: str) -> Any:
    import safetensors

    try:
        return safetensors.safe_open(file, framework="pt")
    except Exception as error:  # of safetensors, about bytes that anybody wrote
        raise ValueError(f"{file} cannot be read as safetensors: {str(error).splitlines()[0]}") from error
