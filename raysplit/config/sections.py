"""The sections that name a part (``model``, ``data``, ``partition``), and ``owners`` and ``output``.

Keys beside a ``name`` are options of what it names, and are checked by the code that takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from raysplit.actors.steps.rules import Precision
from raysplit.config.by_owner.section import BY_OWNER, named_by_owner, refuse_options_beside
from raysplit.config.data.named import Named as Named
from raysplit.config.data.own_source import OwnSourceConfig as OwnSourceConfig
from raysplit.config.data.own_tasks import OwnTasks, as_tuples
from raysplit.config.data.tasks import WithTasks
from raysplit.data.datasets import checked_data_options, known_dataset
from raysplit.data.domains import domain_names
from raysplit.data.partition.laws import checked_parameters, partition_names
from raysplit.data.reading import Kind, Layout, Reading
from raysplit.experiment.several.section import TaskConfig
from raysplit.models.adapters.lora import LoraRules
from raysplit.models.adapters.tuning import Tuning
from raysplit.models.adapters.weights import SUFFIX, WeightsFile
from raysplit.models.zoo import checked_model_options, known_model
from raysplit.options import MOST_OWNERS, LocationText, PathText, is_recorded
from raysplit.paths import FILE_SUFFIXES, checked_name, expanded
from raysplit.registry import known, one_of
from raysplit.schedulers.rules import Rules
from raysplit.trackers.given import checked_trackers


class ModelConfig(Named):
    """Neural network; further keys are passed to its builder."""

    name: str = "cnn8"
    """Name or import path of the network."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of weights and smashed data."""
    precision: Precision = "full"
    """Number type of forward passes in training: ``full`` is ``dtype``; ``bf16`` computes matrix
    products and convolutions in bfloat16, while weights, their gradients, optimizer states and the loss stay in
    float32. Evaluation has full precision."""
    recompute: bool = False
    """Keep only the inputs of a part between its forward and its backward pass, and run forward again in backward: less
    memory, more time, the same numbers."""
    freeze: tuple[str, ...] = ()
    """Patterns of names of weights that are not trained, such as ``layer1.*``: they are neither averaged, nor sent, nor
    kept in checkpoints, and exist once in a process."""
    train: tuple[str, ...] = ()
    """Patterns of names of weights that are trained, while all others are frozen; beside ``lora``, weights that are
    trained as well, such as a new head."""
    lora: LoraRules | None = None
    """Low-rank adapters to train while the model is frozen."""
    weights: PathText | None = None
    """File of base weights that ends in ``.safetensors``, which every place reads itself; other values are an option of
    models that have one."""
    init: Literal["seed", "owners"] = "seed"
    """Where the initial weights of the owners' parts come from: the ``seed`` of the run, which everybody has, or a
    secret that the ``owners`` share (``privacy.secret_file``)."""
    send_inputs: tuple[str, ...] = ()
    """Inputs that may leave their owners as they are, where a cut would send them; the one unnamed input is ``x``."""

    front_end: Literal["auto", "fx", "export", "export_cpu", "chain"] = "auto"
    """How the model is traced to be cut: ``fx`` with torch.fx, ``export`` with torch.export, ``export_cpu`` with it on
    the processor; ``auto`` takes the first whose parts are the model; ``chain`` cuts between the units that the model
    says itself. A run keeps the one that it began with."""

    _known = field_validator("name")(lambda cls, value: known_model(value))

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the fields of the section, in the types of what takes them."""
        own = {"weights": self.weights} if self.weights and not self.has_base else {}
        return self._typed(self.name, {**(self.model_extra or {}), **own})

    @property
    def has_base(self) -> bool:
        """Whether ``weights`` names a file of base weights."""
        return self.weights is not None and self.weights.endswith(SUFFIX)

    def tuning(self) -> Tuning:
        """Return what of the model is trained. Raises ``ValueError`` for a file of weights that cannot be read."""
        base = WeightsFile.of(self.weights) if self.weights and self.has_base else None
        return Tuning(freeze=self.freeze, train=self.train, lora=self.lora, weights=base)

    @model_validator(mode="after")
    def _one_rule_of_training(self) -> Self:
        Tuning(freeze=self.freeze, train=self.train, lora=self.lora)
        return self

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        _ = self.options
        return self

    @model_validator(mode="after")
    def _one_precision(self) -> Self:
        if self.precision == "bf16" and self.dtype != "float32":
            raise ValueError(f"precision is bf16 and dtype is {self.dtype}; set dtype to float32, or leave one out")
        return self

    @staticmethod
    def _typed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return checked_model_options(name, options, section="")


class DataConfig(WithTasks, Named):
    """Data set; further keys are passed to its loader."""

    name: str = "digits"
    """Name, file or import path of the data set."""
    root: PathText | None = None
    """Local folder of torchvision data sets and of relative file names."""
    download: bool = False
    """Download a torchvision data set that is not in ``root``."""
    augment: bool = True
    """Apply random crops and flips, for data sets that have them."""
    values: Kind | None = None
    """What the numbers of your own arrays or tensors are: ``pixels`` are divided by ``max_value``, ``numbers`` keep
    their values, ``ids`` stay whole numbers. None takes ``uint8`` pictures as pixels, integer tensors of a
    ``module:function`` as ids, and everything else as numbers."""
    max_value: float | None = Field(default=None, gt=0)
    """Value of a pixel that becomes 1; None takes 255 for ``uint8`` and 65,535 for pixels of 16 bits."""
    layout: Layout | None = None
    """Place of the channels in arrays [N, ?, ?, ?], ``channels_first`` or ``channels_last``; None decides by shape."""
    renumber_labels: bool = False
    """Number the labels that occur from 0, in their order; they may then be text."""
    pad_to: Literal["longest", "max"] | Annotated[int, Field(ge=1)] | None = None
    """Length of batches of samples that differ in length: of the longest of the batch (``longest``), of the longest of
    all (``max``), or a number. None takes ``longest``, and ``max`` where one forward pass joins rows of several
    owners."""
    pad_multiple: int = Field(default=1, ge=1)
    """Number that the length of padded batches is rounded up to a multiple of."""
    truncate: bool = False
    """Cut samples that are longer than ``pad_to`` or than the positions of the model."""
    by_owner: dict[str, OwnSourceConfig] | str | None = None
    """Data that each owner reads at its own place: the source of each owner by its name (`name`, `root`, options of the
    loader, `resources`, `labels`), or the import path of a function that gets the name of each owner as ``owner``."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Digest of what each owner's own source held when the run began, which raysplit writes into the run folder."""
    train_samples: int | None = Field(default=None, ge=1)
    """Number of training samples, drawn with the seed; None takes all."""
    test_samples: int | None = Field(default=None, ge=1)
    """Number of test samples, drawn with the seed; None takes all."""
    validation: float = Field(default=0.0, ge=0, lt=1)
    """Share of every owner's training samples that is set aside, drawn with the seed: models are evaluated on them too,
    each owner's on its own, so that rates and rounds can be chosen without the test samples; 0 sets none aside."""

    def reading(self, task: TaskConfig | None = None) -> Reading:
        """Return the settings that say what arrays are, with those of the targets of a ``task``."""
        return Reading(
            values=self.values,
            max_value=self.max_value,
            layout=self.layout,
            renumber_labels=self.renumber_labels,
            task=task.kind if task else None,
            tasks=tuple((name, each.kind) for name, each in self.by_target.items()),
            ignore_index=task.ignore_index if task else None,
            ignored=tuple((name, i) for name, each in self.by_target.items() if (i := each.ignore_index) is not None),
        )

    @model_validator(mode="after")
    def _consistent_reading(self) -> Self:
        self.reading()
        return self

    @model_validator(mode="before")
    @classmethod
    def _named_by_owner(cls, values: Any) -> Any:
        return named_by_owner(values)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.by_owner is not None) != (self.name == BY_OWNER):
            raise ValueError(
                f"name is {self.name} and by_owner is {'given' if self.by_owner else 'missing'}; give data.name for "
                f"one source of all samples, or data.by_owner alone for a source of each owner"
            )
        return self

    @field_validator("name")
    @classmethod
    def _name(cls, value: str, info: ValidationInfo) -> str:
        if value == BY_OWNER:
            return value
        if not value.endswith(FILE_SUFFIXES):
            return known_dataset(value)
        return value if is_recorded(info) else expanded(value)

    @property
    def options(self) -> dict[str, Any]:
        """The options of the loader, in its types."""
        return self._typed(self.name, self.for_loader(self.name, self.model_extra or {}))

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        _ = self.options
        return self

    @staticmethod
    def _typed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        if name == BY_OWNER:
            return refuse_options_beside(options)
        return checked_data_options(name, options, section="")


class PartitionConfig(Named):
    """Partition of the samples over the owners; further keys are its options."""

    name: str = "iid"
    """Name or import path of the partition."""
    num_owners: int = Field(default=10, ge=1, le=MOST_OWNERS)
    """Number of owners that the training samples are divided among."""

    _known = field_validator("name")(lambda cls, value: known("partition", value, partition_names()))

    @staticmethod
    def _typed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return checked_parameters(name, options, section="")


class OwnersConfig(Rules):
    """Differences between owners beyond their shards."""

    domain: str | None = None
    """Name of the transform that differs by owner (see `raysplit.data.domains`); None applies none."""
    noisy: int = Field(default=0, ge=0)
    """Number of owners with noise, counted from the last one."""
    pixel_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of the noise on training and test inputs of noisy owners."""
    label_noise: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the training labels of noisy owners that is flipped."""
    tasks: OwnTasks = ()
    """Tasks that each owner learns, where samples have several targets: names by owner, the others learning all, or a
    list that is dealt out in turn; empty lets all learn all. An owner's samples have no target for the other tasks."""

    @property
    def has_domains(self) -> bool:
        """Whether owners have inputs of their own, so that a test sample differs from owner to owner."""
        return self.domain is not None or (self.noisy > 0 and self.pixel_noise > 0)

    _tuples = field_validator("tasks", mode="before")(lambda cls, value: as_tuples(value))

    @field_validator("domain")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return value if value is None else one_of("domain", value, domain_names())


class OutputConfig(Rules):
    """Folder of the results, ``<root>/<name>/``."""

    root: LocationText = "runs"
    """Folder or URI of all runs."""
    name: str | None = None
    """Name of the run; None takes the name of the configuration file or the algorithm, with date and time."""
    overwrite: bool = False
    """Replace a run of the same name."""
    trackers: tuple[str | dict[str, Any], ...] = ()
    """Trackers that get every round: ``tensorboard``, ``mlflow``, ``wandb``, or mappings of a ``name`` and its
    options."""

    _known_trackers = field_validator("trackers")(lambda cls, value: checked_trackers(value))

    @field_validator("name")
    @classmethod
    def _typable(cls, value: str | None, info: ValidationInfo) -> str | None:
        return value if value is None or is_recorded(info) else checked_name(value)
