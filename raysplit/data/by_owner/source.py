"""The source of one owner's data: where it lies, how it is read, and what it must still hold when it is read again."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from raysplit.data.failures import described
from raysplit.data.reading import AS_FOUND, Reading
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sequences.padding import Padding, padded
from raysplit.data.transforms import Transform
from raysplit.paths import FILE_SUFFIXES, PLACES, expanded
from raysplit.registry import imported


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """The data of one owner, as they are read at its place.

    Attributes:
        data: the data set; of a streamed file its test samples on both sides.
        train: the training samples.
        digest: digest of the samples, before their lengths are changed.
    """

    data: DataSet
    train: Samples
    digest: str

    @property
    def test(self) -> Samples:
        """The test samples."""
        return self.data.test

    @property
    def transform(self) -> Transform:
        """The transform of training batches."""
        return self.data.transform

    @property
    def eval_transform(self) -> Transform:
        """The transform of test batches."""
        return self.data.eval_transform


@dataclass(frozen=True, kw_only=True)
class OwnSource:
    """Where one owner's data lie, and how they are read; plain values, which are read where `open` is called.

    Attributes:
        party: name of the owner in the run, ``owner-0``.
        owner: name of the owner in the configuration, which a function with a parameter ``owner`` is given.
        name: what ``data.name`` takes.
        root: folder of relative paths, at the owner's place.
        options: further arguments of the loader.
        augment: whether to apply random crops and flips, for data sets that have them.
        reading: what arrays are, where their types do not say it.
        padding: the length of batches of samples that differ in length, once all owners have said theirs.
        resources: custom Ray resources that the owner's place requires.
        labels: Ray labels that the owner's machine must have.
    """

    party: str
    owner: str
    name: str
    root: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    augment: bool = True
    reading: Reading = AS_FOUND
    padding: Padding | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The file, folder or function, for messages."""
        if self.name.endswith(FILE_SUFFIXES) and not self.name.startswith(PLACES):
            return str(Path(self.root or ".") / self.name)
        return f"{self.name} in {self.root}" if self.root else self.name

    def __str__(self) -> str:
        return f"{self.party} ({self.owner}, {self.place})"

    def open(self) -> Opened:
        """Read the data. Raises ``ValueError``, with the owner and its source, for anything that fails."""
        try:
            opened = self._opened()
        except ValueError as error:
            said = str(error).removeprefix(self.place).removeprefix(":").lstrip()
            raise ValueError(f"data of {self}: {said}") from error
        except Exception as error:  # a file that another program holds, a module that fails
            raise ValueError(f"data of {self}: {described(error)}; repair the source of this owner") from error
        return opened

    def _opened(self) -> Opened:
        from raysplit.data.by_owner.digest import digest_of  # the readers of all formats, which few owners need
        from raysplit.data.datasets import load_dataset
        from raysplit.data.sources.shards import STREAMED

        root = None if self.root is None else expanded(self.root)
        encoder = self.options.get("encoder", "declared")
        if encoder != "declared":
            raise ValueError(
                f"encoder is {encoder}, which needs the rows of several owners, and this one reads its own file; set "
                f"encoder: declared, with the categories, means and standard deviations"
            )
        if self.name == STREAMED:
            return _only_shard(root, self.reading, self.options)
        is_path = self.name.endswith(FILE_SUFFIXES) or self.name.startswith(PLACES)
        data = load_dataset(
            expanded(self.name) if is_path else self.name,
            root=root,
            augment=self.augment,
            reading=self.reading,
            **self._named_options(),
        )
        digest = digest_of(data.train, data.test)
        if self.padding is not None:
            data = padded(data, self.padding)
        return Opened(data=data, train=data.train, digest=digest)

    def _named_options(self) -> dict[str, Any]:
        """Return the options, with the owner's name for a function that asks for it."""
        options = dict(self.options)
        if ":" in self.name and not self.name.startswith(PLACES):
            function = imported("data set", self.name)
            if "owner" in inspect.signature(function).parameters:
                options.setdefault("owner", self.owner)
        return options


def _only_shard(root: str | None, reading: Reading, options: Mapping[str, Any]) -> Opened:
    from raysplit.data.by_owner.digest import digest_of
    from raysplit.data.sources.shards import open_shards

    if root is None:
        raise ValueError("the source is shards and has no root; set it to the folder or URI with train/")
    found = open_shards(root, reading=reading, **options)
    if len(found.shards) != 1:
        raise ValueError(
            f"{root}/train has {len(found.shards)} files and is the source of one owner; leave one there, or give each "
            f"owner a folder"
        )
    shard = cast(Samples, found.shards[0])  # has the methods that owners call
    return Opened(data=found.outline, train=shard, digest=digest_of(shard, found.outline.test))
