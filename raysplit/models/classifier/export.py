"""The folder from which a multi-task model is served, with the files `model.pt` and `serving.json`.

`model.pt` is the state dict of a `MultiTaskClassifier` (`backbone.*` and `heads.<task>.*`), loaded with weights_only.
`serving.json` holds the fields of `ServingMeta`:

    format          1
    backbone        a name in BACKBONES                  image_size   side of the square input, pixels
    hidden          width of a head's hidden layer       classes      {task: [class names]}, bit j of a mask = task j
    cut             "flat" or "pooled" features
    mean, std       per channel, applied to pixels in 0..1; [0, 0, 0] and [1, 1, 1] without normalization
    kinds, units    only where a task is no classification: its kind, "multi_label" or "regression", and of a
                    regression mean and std of each output, by which an estimate is output * std + mean
    weights_sha256  hash of model.pt, which edge and server compare, so that features never reach another run's heads

Split after Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the edge loads the backbone, a server a head.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from raysplit.data.transforms import Normalise
from raysplit.disk import TRY_AGAIN, written
from raysplit.models.classifier.heads import (
    BACKBONE,
    HIDDEN,
    FeatureCut,
    MultiTaskClassifier,
    Trunk,
    backbone_kind,
    check_task_name,
    num_features,
    task_head,
)
from raysplit.models.classifier.spec import ClassifierSpec

WEIGHTS, META = "model.pt", "serving.json"
Part = TypeVar("Part", bound=nn.Module)


class Units(BaseModel):
    """Mean and standard deviation of each output of a regression."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: tuple[float, ...]
    std: tuple[float, ...]


class ServingMeta(BaseModel):
    """Description of a served model, on which edge and server must agree; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    backbone: str = BACKBONE
    image_size: int = Field(ge=1)
    hidden: int = Field(default=HIDDEN, ge=1)
    cut: FeatureCut = "flat"
    classes: dict[str, tuple[str, ...]] = Field(min_length=1, max_length=32)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    kinds: dict[str, Literal["multi_label", "regression"]] = Field(default_factory=dict)
    units: dict[str, Units] = Field(default_factory=dict)
    weights_sha256: str = ""

    @model_validator(mode="after")
    def _units_of_regressions(self) -> Self:
        for task, kind in self.kinds.items():
            widths = {len(self.classes.get(task, ()))}
            if kind == "regression" and task in self.units:
                widths |= {len(self.units[task].mean), len(self.units[task].std)}
            if task not in self.classes or len(widths) > 1 or (kind == "regression") != (task in self.units):
                raise ValueError(f"kinds has the {kind} {task!r}, and classes and units do not describe its outputs")
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.classes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Serving:
    """A model in evaluation mode with the description needed to serve it."""

    meta: ServingMeta
    model: MultiTaskClassifier


def described(
    spec: ClassifierSpec, normalisation: Normalise | None = None, units: Mapping[str, Any] = MappingProxyType({})
) -> ServingMeta:
    """Describe a trained model, the normalization of its training data and the units of its regressions by task."""
    chosen = {key: value for key, value in dict(spec.options).items() if key in ("backbone", "hidden", "cut")}
    if normalisation is not None:
        per_channel = 3 // len(normalisation.mean)  # one number serves every channel
        chosen |= {"mean": normalisation.mean * per_channel, "std": normalisation.std * per_channel}
    chosen |= {"kinds": dict(spec.kinds), "units": dict(units)} if spec.kinds else {}
    return ServingMeta(image_size=spec.input_shape[1], classes=dict(spec.classes), **chosen)


def save_serving(
    folder: Path, model: MultiTaskClassifier, meta: ServingMeta, *, advice: str = TRY_AGAIN
) -> ServingMeta:
    """Write both files, each whole or not at all; ``advice`` is what to do where the disk does not take them.

    Returns:
        The description as written, with the hash of the weights.

    Raises:
        ValueError: when the description does not fit the model.
    """
    if model.tasks != meta.tasks:
        raise ValueError(
            f"the model has the tasks {', '.join(model.tasks)}, the description {', '.join(meta.tasks)}; give its own"
        )
    _check_fit(_blank(meta), model.state_dict(), "the model")
    folder.mkdir(parents=True, exist_ok=True)
    with written(folder / WEIGHTS, advice) as aside:
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, aside)
        with aside.open("rb") as file:
            complete = meta.model_copy(update={"weights_sha256": hashlib.file_digest(file, "sha256").hexdigest()})
    with written(folder / META, advice) as aside:
        left_out = None if complete.kinds else {"kinds", "units"}
        aside.write_text(json.dumps(complete.model_dump(exclude=left_out), indent=2) + "\n", encoding="utf-8")
    return complete


def export_trained(
    folder: Path,
    spec: ClassifierSpec,
    state: Mapping[str, Tensor],
    normalisation: Normalise | None,
    *,
    units: Mapping[str, Any] = MappingProxyType({}),
    advice: str = TRY_AGAIN,
) -> ServingMeta:
    """Write both files for the trained weights of a model, and return the description as written.

    ``units`` has mean and std of each regression by task, and ``advice`` is what to do where the disk does not take
    the files.
    """
    model = spec.build()
    assert isinstance(model, MultiTaskClassifier)
    model.load_state_dict(dict(state))
    return save_serving(folder, model, described(spec, normalisation, units), advice=advice)


def load_meta(folder: Path) -> ServingMeta:
    """Read the description in `folder`. Raises ValueError when there is none, or an invalid one."""
    path = folder / META
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {META}: no multi-task model was exported there; give the folder of an export"
        )
    try:
        return ServingMeta.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise ValueError(f"{path}: {place}: {first['msg']}; export the run again") from error


def load_serving(folder: Path) -> Serving:
    """Load the whole model.

    Raises ValueError for a folder without heads or with weights that do not fit its description.
    """
    meta = load_meta(folder)
    return Serving(meta=meta, model=_fitted(_blank(meta), _state(folder), str(folder / WEIGHTS)))


def load_trunk(folder: Path) -> Trunk:
    """Load the backbone alone, for an edge device. Raises ValueError as `load_serving` does."""
    meta, state = load_meta(folder), _state(folder)
    wanted = {name: value for name, value in state.items() if name.startswith("backbone.")}
    return _fitted(_blank(meta).trunk(), wanted, str(folder / WEIGHTS))


def load_head(folder: Path, task: str) -> nn.Module:
    """Load the head of one task, for a server. Raises ValueError as `load_serving` does."""
    meta, state = load_meta(folder), _state(folder)
    return _fitted(_blank(meta).heads[task], _below(f"heads.{task}.", state), str(folder / WEIGHTS))


def served_features(meta: ServingMeta) -> int:
    """Return Z_b, the number of features of the described backbone."""
    with torch.device("meta"):
        return num_features(backbone_kind(meta.backbone).build(), meta.image_size, meta.cut)


def prepared(x: Tensor, meta: ServingMeta) -> Tensor:
    """Convert pictures uint8 [B, 3, S, S] to model input: scaled to 0..1, then normalized."""
    mean, std = x.new_tensor(meta.mean, dtype=torch.float32), x.new_tensor(meta.std, dtype=torch.float32)
    return (x.float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def _blank(meta: ServingMeta) -> MultiTaskClassifier:
    """Build the described model without memory for its weights."""
    for task in meta.tasks:
        check_task_name(task)
    with torch.device("meta"):
        trunk = backbone_kind(meta.backbone).build()
        features = num_features(trunk, meta.image_size, meta.cut)
        heads = {task: task_head(features, len(names), hidden=meta.hidden) for task, names in meta.classes.items()}
    return MultiTaskClassifier(trunk, nn.ModuleDict(heads), meta.cut)


def _state(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}; give the folder of an export")
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load has no error of its own for a damaged file
        raise ValueError(f"{path} cannot be read: {error}; export the run again") from error
    if not any(name.startswith("heads.") for name in state):
        raise ValueError(f"{path} holds no heads, only {len(state)} other weights; export a run of a multi-task model")
    return state


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _check_fit(blank: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    own = {name: tuple(value.shape) for name, value in blank.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    wrong = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
    if wrong:
        found, wanted = (f"shape {shapes[wrong[0]]}" if wrong[0] in shapes else "nothing" for shapes in (given, own))
        raise ValueError(
            f"{source} does not fit the description: {wrong[0]} has {found} and the description has {wanted}; "
            f"export the run again"
        )


def _fitted(blank: Part, state: Mapping[str, Tensor], source: str) -> Part:
    """Load copies of the weights into `blank` and put it in evaluation mode."""
    _check_fit(blank, state, source)
    blank.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)
    return blank.eval().requires_grad_(False)
