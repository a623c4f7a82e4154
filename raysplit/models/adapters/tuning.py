"""Which weights of a model are trained: all, those that patterns name, or low-rank adapters beside a frozen base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import nn

from raysplit.models.adapters.lora import LoraRules, adapt
from raysplit.models.adapters.weights import WeightsFile
from raysplit.models.sources.own_keys import FolderWeights


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What of a model is trained, and what it begins from.

    Attributes:
        freeze: patterns of names of weights that are not trained.
        train: patterns of names of weights that are trained, all others being frozen; beside adapters, those that are
            trained as well.
        lora: adapters to train; None for none.
        weights: a file with the weights to begin from; None draws them from the seed.
        folder: what the folder of the model must hold, which parties compare with what they read; None where nobody
            has said it.

    Raises:
        ValueError: for ``freeze`` beside one of the others, which freeze the rest already.
    """

    freeze: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    lora: LoraRules | None = None
    weights: WeightsFile | None = None
    folder: FolderWeights | None = None

    def __post_init__(self) -> None:
        if self.freeze and (self.train or self.lora is not None):
            other = "model.train" if self.train else "model.lora"
            raise ValueError(f"{other} freezes all that it does not name, and model.freeze names more; leave one out")

    @property
    def is_plain(self) -> bool:
        """Whether all weights of the model as built are trained, as far as it says itself."""
        return replace(self, folder=None) == Tuning()

    def applied(self, model: nn.Module, seed: int) -> nn.Module:
        """Change a new model in place, and return it.

        Raises:
            ValueError: for a pattern or a target that fits nothing, and a file that does not fit.
        """
        missing = self.weights.load_into(model) if self.weights is not None else []
        if self.lora is not None:
            model = adapt(model, self.lora, seed)
        self._freeze(model)
        frozen = {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
        if lost := [name for name in missing if name in frozen]:
            assert self.weights is not None
            raise ValueError(
                f"{self.weights.path} lacks {lost[0]!r}, which is frozen, so that it would stay as drawn from the "
                f"seed; give all frozen weights, or name it in model.train"
            )
        return model

    def _freeze(self, model: nn.Module) -> None:
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        for key, patterns in (("freeze", self.freeze), ("train", self.train)):
            for pattern in patterns:
                if not any(fnmatchcase(name, pattern) for name in names):
                    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                    raise ValueError(f"model.{key}: {pattern!r} fits no weight of the model; their names are {shown}")
        rest_is_frozen = bool(self.train) or self.lora is not None
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if (rest_is_frozen and not _is_adapter(name) and not _fits(name, self.train)) or _fits(name, self.freeze):
                parameter.requires_grad_(False)
        if not self.is_plain and not any(p.requires_grad for p in model.parameters()):
            raise ValueError("model.freeze and model.train leave no weight to train; let them freeze fewer")


def _is_adapter(name: str) -> bool:
    return name.rpartition(".")[2] in ("lora_a", "lora_b")


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
