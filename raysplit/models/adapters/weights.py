"""Base weights from a file of safetensors, which every party reads itself, and a digest that tells files apart."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file of weights, and the digest of what it must hold.

    Attributes:
        path: the file, which every place must be able to read.
        digest: that of the tensors in it.
    """

    path: str
    digest: str

    @classmethod
    def of(cls, path: str) -> WeightsFile:
        """Describe a file. Raises ``ValueError`` for one that cannot be read."""
        whole = str(Path(path).resolve())
        return cls(path=whole, digest=digest(_read(whole)))

    def load_into(self, model: nn.Module) -> list[str]:
        """Load the weights into a model, and return the names of those that the file lacks.

        Raises:
            ValueError: for a file that cannot be read, is another one than described, or is of another model.
        """
        found = _read(self.path)
        if digest(found) != self.digest:
            raise ValueError(
                f"{self.path} holds other weights here than where the run was started: their digest is "
                f"{digest(found)} instead of {self.digest}; copy the file to every machine"
            )
        own = model.state_dict()
        leaves_out = getattr(model, "leaves_out", None)
        if leaves_out is not None:
            found = {name: value for name, value in found.items() if name in own or not leaves_out(name)}
        if surplus := sorted(found.keys() - own.keys()):
            raise ValueError(
                f"{self.path} has {_listed(surplus)}, which the model has not; it has {_listed(list(own))}; give the "
                f"weights of this model"
            )
        for name, value in found.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"{self.path}: {name!r} has the shape {list(value.shape)}, and that of the model is "
                    f"{list(own[name].shape)}; give the weights of this model, with the same options"
                )
        model.load_state_dict(found, strict=False)
        missing = [name for name in own if name not in found]
        if missing:
            logger.warning("%s lacks %s, drawn from the seed", self.path, _listed(missing))
        return missing


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the BLAKE2b digest of 128 bits over name, dtype, shape and bytes of all tensors, in the order of names."""
    hashed = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        hashed.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        hashed.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def write_weights(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    _safetensors().save_file(tensors, str(path), metadata=dict(metadata or {"format": "pt"}))


def _read(path: str) -> dict[str, Tensor]:
    if not path.endswith(SUFFIX):
        raise ValueError(
            f"model.weights is {path}, and base weights are read from files that end in {SUFFIX}, which run no code; "
            f"write one with raysplit export, or safetensors.torch.save_file"
        )
    if not Path(path).is_file():
        raise ValueError(f"model.weights is {path}, and there is no such file here; every place reads it itself")
    try:
        found: dict[str, Tensor] = _safetensors().load_file(path)
    except ValueError:
        raise
    except Exception as error:  # of safetensors, about bytes that anybody wrote
        raise ValueError(f"{path} cannot be read as safetensors: {str(error).splitlines()[0]}") from error
    return found


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ValueError("weights in safetensors need the library of that name: pip install 'raysplit[hf]'") from error
    return safetensors.torch


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
