"""Profiles: the costs of each unit of a model on a device, and the known kinds of devices.

A planner needs, for every unit of the chain, the time of its forward pass, its backward pass and its weight update for
one batch, the bytes of its output and the bytes of its weights (Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop
Parallel Split Learning", 2024, arXiv 2402.00208). The measurements that these authors published ship as data in
``profiles/``, whose README describes their origin.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from raysplit.registry import nearest

BYTES_PER_GIB = 2**30
_DATA = files("raysplit.schedulers.cuts").joinpath("profiles")
_DEVICES, _OWNERS = "devices", "owners"
_TIMES = ("forward_ms", "backward_ms", "update_ms")
_SIZES = ("activation", "parameter")
_LEAKS = ("leak_fisher", "dcor2_unbiased")
_SAID = {True: "yes", False: "no", None: ""}
_HEARD = {text: value for value, text in _SAID.items()}


@dataclass(frozen=True, kw_only=True)
class UnitProfile:
    """Times and sizes of one unit of the chain on one device, for one batch.

    Attributes:
        name: the name of the unit.
        forward_ms, backward_ms: time of its forward and its backward pass.
        update_ms: time of the optimizer step of its weights.
        activation_bytes: size of its output, which crosses a link if the chain is cut behind this unit.
        parameter_bytes: size of one replica of its weights.
        activation_shapes: the tensors of its output for one sample, as text such as ``32x7x7 float32``, which a
            prediction with a codec needs; empty if the profile does not contain them.
        parameter_shapes: its weights and buffers by name, such as ``conv.weight 32x3x3x3 float32``, likewise.
        sends_inputs: whether a cut behind this unit would send inputs that no weight has changed; None if the profile
            does not say so.
        leak_fisher, dcor2_unbiased: what a cut behind this unit tells of the inputs; None if it was not measured.
    """

    name: str
    forward_ms: float
    backward_ms: float
    update_ms: float
    activation_bytes: int
    parameter_bytes: int
    activation_shapes: tuple[str, ...] = ()
    parameter_shapes: tuple[str, ...] = ()
    sends_inputs: bool | None = None
    leak_fisher: float | None = None
    dcor2_unbiased: float | None = None

    def __post_init__(self) -> None:
        for field in (*_TIMES, *(f"{size}_bytes" for size in _SIZES)):
            value = getattr(self, field)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"unit {self.name!r} has {field} {value}; times and sizes are finite and not negative")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The units of a model in chain order, measured on a device.

    Attributes:
        model: name of the model.
        device: name of the machine.
        batch_size: samples of a measured batch.
        units: the units.
        length: length of the samples, for a model whose samples differ in length; None for any other.
    """

    model: str
    device: str
    batch_size: int
    units: tuple[UnitProfile, ...]
    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is not None and self.length < 1:
            raise ValueError(f"length is {self.length}; a sample has at least one entry")
        if not self.units:
            raise ValueError(f"the profile of {self.model!r} has no units; measure one with `raysplit profile`")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; a batch has at least one sample")

    def first_private_cut(self) -> int | None:
        """Return the lowest number of units, from 1 on, that keep the inputs at their owner; None if there is none.

        Where the profile does not say what crosses, the first unit with weights has to be among them.
        """
        weights = 0
        for number, unit in enumerate(self.units, start=1):
            weights += unit.parameter_bytes
            if not (weights == 0 if unit.sends_inputs is None else unit.sends_inputs):
                return number
        return None

    def to_csv(self, path: Path | str) -> None:
        """Write a CSV file with one row per unit; model, device and batch size are repeated in each."""
        rows = self._rows()
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def to_parquet(self, path: Path | str) -> None:
        """Write the same table as a Parquet file."""
        import pyarrow as pa  # places load this module, and none of them needs Arrow
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(self._rows()), str(path), write_page_checksum=True)

    def _rows(self) -> list[dict[str, str | int | float | None]]:
        leaks = [name for name in _LEAKS if any(getattr(unit, name) is not None for unit in self.units)]
        return [
            {
                "model": self.model,
                "device": self.device,
                "batch_size": self.batch_size,
                **({} if self.length is None else {"length": self.length}),
                "unit": unit.name,
                "forward_ms": unit.forward_ms,
                "backward_ms": unit.backward_ms,
                "update_ms": unit.update_ms,
                "activation_bytes": unit.activation_bytes,
                "parameter_bytes": unit.parameter_bytes,
                "activation_shapes": ", ".join(unit.activation_shapes),
                "parameter_shapes": ", ".join(unit.parameter_shapes),
                "sends_inputs": _SAID[unit.sends_inputs],
                **{name: getattr(unit, name) for name in leaks},
            }
            for unit in self.units
        ]


@dataclass(frozen=True, kw_only=True)
class NodeKind:
    """A kind of machine: its memory, speed and price.

    Attributes:
        name: the name of the kind.
        memory_bytes: its memory.
        slowdown: factor on the times of the profile (1: the profiled device, 2: half its speed).
        price_per_hour: its price, in the user's currency.
        power_w: its power draw while it computes; None if unknown.
    """

    name: str
    memory_bytes: int
    slowdown: float = 1.0
    price_per_hour: float = 0.0
    power_w: float | None = None

    def __post_init__(self) -> None:
        if self.memory_bytes <= 0:
            raise ValueError(f"node kind {self.name!r} has {self.memory_bytes} bytes of memory; give it more than 0")
        if not (math.isfinite(self.slowdown) and self.slowdown > 0):
            raise ValueError(
                f"node kind {self.name!r} has slowdown {self.slowdown}; 1 is the profiled device, 2 half as fast"
            )
        if not (math.isfinite(self.price_per_hour) and self.price_per_hour >= 0):
            raise ValueError(f"node kind {self.name!r} costs {self.price_per_hour} per hour; a price is not negative")


@dataclass(frozen=True, kw_only=True)
class OwnerTimes:
    """The times of one batch on a data owner's device, in ms, and its link.

    `last_ms` is forward, loss and backward of the last part. `link_bytes_per_s` is the bandwidth in each direction.
    """

    name: str
    first_forward_ms: float
    last_ms: float
    first_backward_ms: float
    link_bytes_per_s: float

    def __post_init__(self) -> None:
        if self.link_bytes_per_s <= 0:
            raise ValueError(f"owner {self.name!r} has a link of {self.link_bytes_per_s} bytes/s; give it more than 0")


def load_profile(name_or_path: str | Path) -> Profile:
    """Load a shipped profile by its name (`vgg19_mpsl_vm`), or any profile by its path (.parquet or .csv).

    Raises ValueError for an unknown name, with the known ones, and for a file that is not a profile.
    """
    if str(name_or_path) in profile_names():
        return _profile(_read_csv(_DATA.joinpath(f"{name_or_path}.csv")), str(name_or_path))
    path = Path(name_or_path)
    if path.is_file() and path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            rows = pq.read_table(str(path), page_checksum_verification=True).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path} is damaged, or no Parquet file ({error}); write the profile again") from error
        return _profile(rows, str(path))
    if path.is_file() and path.suffix == ".csv":
        return _profile(_read_csv(path), str(path))
    raise ValueError(
        f"no profile {str(name_or_path)!r}{nearest(str(name_or_path), profile_names())}; give one of "
        f"{', '.join(profile_names())} or the path of a .parquet or .csv file; `raysplit profile` measures a model on "
        "this device"
    )


def profile_names() -> list[str]:
    """List the names of the shipped profiles."""
    stems = {Path(entry.name).stem for entry in _DATA.iterdir() if entry.name.endswith(".csv")}
    return sorted(stems - {_DEVICES, _OWNERS})


def node_kinds() -> dict[str, NodeKind]:
    """Load the shipped device kinds by name; a price that was not published is 0."""
    return {row["name"]: _node_kind(row) for row in _read_csv(_DATA.joinpath(f"{_DEVICES}.csv"))}


def owner_times() -> dict[str, OwnerTimes]:
    """Load the shipped owner devices by name, with the three times scaled to sum to the published `batch_ms`."""
    return {row["name"]: _owner(row) for row in _read_csv(_DATA.joinpath(f"{_OWNERS}.csv"))}


def _node_kind(row: dict[str, str]) -> NodeKind:
    return NodeKind(
        name=row["name"],
        memory_bytes=round(float(row["memory_gib"]) * BYTES_PER_GIB),
        slowdown=float(row["slowdown"]),
        price_per_hour=float(row["price_per_hour"] or 0),
        power_w=float(row["power_w"]) if row["power_w"] else None,
    )


def _owner(row: dict[str, str]) -> OwnerTimes:
    shape = [float(row[field]) for field in ("first_forward_ms", "last_ms", "first_backward_ms")]
    first_forward_ms, last_ms, first_backward_ms = (ms * float(row["batch_ms"]) / sum(shape) for ms in shape)
    return OwnerTimes(
        name=row["name"],
        first_forward_ms=first_forward_ms,
        last_ms=last_ms,
        first_backward_ms=first_backward_ms,
        link_bytes_per_s=float(row["link_bytes_per_s"]),
    )


def _read_csv(path: Traversable | Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def _profile(rows: list[dict[str, str]], source: str) -> Profile:
    try:
        units = tuple(
            UnitProfile(
                name=row["unit"],
                forward_ms=float(row["forward_ms"]),
                backward_ms=float(row["backward_ms"]),
                update_ms=float(row["update_ms"]),
                activation_bytes=_bytes(row, "activation"),
                parameter_bytes=_bytes(row, "parameter"),
                activation_shapes=tuple(filter(None, (row.get("activation_shapes") or "").split(", "))),
                parameter_shapes=tuple(filter(None, (row.get("parameter_shapes") or "").split(", "))),
                sends_inputs=_HEARD[row.get("sends_inputs") or ""],
                **{name: float(row[name]) for name in _LEAKS if row.get(name) not in (None, "")},
            )
            for row in rows
        )
        first = rows[0]
        length = int(first["length"]) if first.get("length") else None
        batch_size = int(first["batch_size"])
        return Profile(model=first["model"], device=first["device"], batch_size=batch_size, units=units, length=length)
    except (KeyError, IndexError) as missing:
        raise ValueError(
            f"{source} is not a profile: {missing}; it needs rows with the columns model, device, batch_size, unit, "
            f"{', '.join(_TIMES)}, activation_bytes and parameter_bytes (or both sizes in _kib)"
        ) from missing


def _bytes(row: dict[str, str], size: str) -> int:
    if f"{size}_kib" in row:
        return round(float(row[f"{size}_kib"]) * 1024)
    return int(row[f"{size}_bytes"])


def own_units_ms(profile: Profile, first: int, end: int) -> float:
    """Return the time per batch of the units before the first cut and from the last cut on."""
    units = profile.units[:first] + profile.units[end:]
    return sum(unit.forward_ms + unit.backward_ms + unit.update_ms for unit in units)
