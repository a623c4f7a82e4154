"""The description of a lab: a cluster of several machines on this machine, with one raylet (Ray's process) for each.

A lab file lists kinds of machines: CPUs, memory, custom resources and labels, as a real cluster would offer them. Each
machine also offers its kind as a custom resource and as the label ``kind``. The machines differ in Ray's placement
only; to make them differ in speed, see `raysplit.cluster.emulation.machines`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysplit.plain_yaml import Texts, read, text_of
from raysplit.registry import clipped, few, shown

GIB = 2**30
_MIB = 2**20
HEAD = "head"
_NAME = re.compile(r"[a-z0-9_]{1,24}")  # socket paths have a limit of 107 characters
_WORD = re.compile(r"[A-Za-z0-9._/-]{1,120}")
_MOST_MACHINES = 1_000  # each is a process
_MOST_UNITS = 10_000
_LAB_KEYS = ("name", "port", "dashboard_port", "object_store_mib", "machines")
_TEXT = Texts(scalar=True)
_MACHINE_TEXTS = Texts(keys={"labels": Texts(each=_TEXT), "resources": Texts(each=Texts())})
_TEXTS = Texts(keys={"name": _TEXT, "machines": Texts(each=_MACHINE_TEXTS)})
_KIND_KEYS = ("count", "cpus", "gpus", "memory_gib", "resources", "labels")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine of a lab, which is one raylet.

    Attributes:
        name: kind and number of the machine, ``pi_4-1``, which Ray shows as the node's name.
        kind: kind of the machine.
        cpus: logical CPUs.
        gpus: logical GPUs.
        memory_bytes: logical memory.
        resources: custom resources, with the kind among them.
        labels: labels for label selectors, with the kind as ``kind``.
    """

    name: str
    kind: str
    cpus: int = 1
    gpus: int = 0
    memory_bytes: int = GIB
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A lab: its machines, the head first, and the ports of the head on the loopback interface."""

    name: str
    machines: tuple[Machine, ...]
    port: int = 6390
    dashboard_port: int = 8275
    object_store_bytes: int = 100 * _MIB

    @property
    def address(self) -> str:
        """The address for ``RAY_ADDRESS`` and ``cluster.address``."""
        return f"127.0.0.1:{self.port}"

    @property
    def dashboard(self) -> str:
        """The address for ``raysplit submit --address``."""
        return f"http://127.0.0.1:{self.dashboard_port}"


def read_lab(path: str | Path) -> Lab:
    """Read a lab from a YAML file; raise ``ValueError`` with the name of the wrong key."""
    try:
        tree = read(text_of(Path(path)), "its text", _TEXTS)
    except (OSError, ValueError) as error:
        raise ValueError(f"lab {path} cannot be read: {clipped(str(error), 500)}") from error
    if not isinstance(tree, Mapping):
        raise ValueError(f"lab {path} must be a mapping of {', '.join(_LAB_KEYS)}, got {type(tree).__name__}")
    return lab_from(tree, default_name=Path(path).stem)


def lab_from(tree: Mapping[str, Any], *, default_name: str = "lab") -> Lab:
    """Build a lab from plain data; raise ``ValueError`` with the name of the wrong key."""
    _only(tree, _LAB_KEYS, "a lab")
    name = _text(tree.get("name", default_name))
    if not _NAME.fullmatch(name):
        raise ValueError(f"a lab's name must have 1 to 24 characters of a-z, 0-9 and _, got {shown(name)}")
    kinds = tree.get("machines")
    if not isinstance(kinds, Mapping) or HEAD not in kinds:
        raise ValueError(
            f"lab {name}: machines must be a mapping of kinds with {HEAD!r} among them, got {shown(kinds)}"
        )
    if next(iter(kinds)) != HEAD:
        kinds = {HEAD: kinds[HEAD], **kinds}
    return Lab(
        name=name,
        machines=tuple(machine for kind, entry in kinds.items() for machine in _machines(_text(kind), entry or {})),
        port=_whole(tree, "port", 6390, f"lab {name}", lowest=1024, highest=65535),
        dashboard_port=_whole(tree, "dashboard_port", 8275, f"lab {name}", lowest=1024, highest=65535),
        object_store_bytes=_whole(tree, "object_store_mib", 100, f"lab {name}", lowest=80, highest=2**24) * _MIB,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _machines(kind: str, entry: Any) -> Iterator[Machine]:
    what = f"machine kind {shown(kind)}"
    if not isinstance(entry, Mapping) or not _NAME.fullmatch(kind):
        raise ValueError(
            f"{what} must be a mapping whose name has 1 to 24 characters of a-z, 0-9 and _, got {shown(entry)}"
        )
    _only(entry, _KIND_KEYS, what)
    count = _whole(entry, "count", 1, what, lowest=1, highest=_MOST_MACHINES)
    if kind == HEAD and count != 1:
        raise ValueError(f"{what}: count must be 1, because a cluster has one head, got {count}")
    resources, labels = _named(entry, "resources", what), _named(entry, "labels", what)
    for key, label in labels.items():
        if not (_WORD.fullmatch(key) and _WORD.fullmatch(_text(label))):
            raise ValueError(f"{what}: label {shown(key)}: {shown(label)} must have letters, digits and . _ - / alone")
    for name, amount in resources.items():
        if not _WORD.fullmatch(name):
            raise ValueError(f"{what}: resource {shown(name)} must have letters, digits and . _ - / alone")
        if not _is_amount(amount):
            raise ValueError(f"{what}: resource {name} must be a number above 0 and at most 1e9, got {shown(amount)}")
    memory_gib = entry.get("memory_gib", 1)
    if not _is_amount(memory_gib):
        raise ValueError(f"{what}: memory_gib must be a number above 0 and at most 1e9, got {shown(memory_gib)}")
    for number in range(count):
        yield Machine(
            name=kind if count == 1 else f"{kind}-{number + 1}",
            kind=kind,
            cpus=_whole(entry, "cpus", 1, what, highest=_MOST_UNITS),
            gpus=_whole(entry, "gpus", 0, what, highest=_MOST_UNITS),
            memory_bytes=round(memory_gib * GIB),
            resources={kind: 1.0, **{key: float(value) for key, value in resources.items()}},
            labels={"kind": kind, **{key: _text(value) for key, value in labels.items()}},
        )


def start_arguments(lab: Lab, machine: Machine, temp_dir: Path) -> list[str]:
    """Return the arguments of ``ray start`` for one machine.

    Every machine needs its own ``temp_dir``: raylets that start at the same time in one folder take each other's
    sockets. The head uses the lab's ports (and ``port + 1`` for Ray's client); all other ports are free ones.
    """
    head = [
        "--head",
        f"--port={lab.port}",
        f"--dashboard-port={lab.dashboard_port}",
        "--dashboard-host=127.0.0.1",
        "--include-dashboard=true",
        f"--ray-client-server-port={lab.port + 1}",
    ]
    return [
        *(head if machine.kind == HEAD else [f"--address={lab.address}"]),
        "--block",
        f"--temp-dir={temp_dir}",
        "--disable-usage-stats",
        "--node-ip-address=127.0.0.1",
        f"--node-name={machine.name}",
        f"--num-cpus={machine.cpus}",
        f"--num-gpus={machine.gpus}",
        f"--memory={machine.memory_bytes}",
        f"--object-store-memory={lab.object_store_bytes}",
        f"--resources={json.dumps(dict(machine.resources))}",
        f"--labels={','.join(f'{key}={value}' for key, value in machine.labels.items())}",
        *(f"--{port}=0" for port in ("min-worker-port", "max-worker-port", "dashboard-agent-listen-port")),
    ]


def _only(tree: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    if unknown := [_text(key) for key in tree if key not in known]:
        raise ValueError(f"{what} has no key {few(unknown)} (one of {', '.join(known)})")


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e9


def _named(entry: Mapping[str, Any], key: str, what: str) -> dict[str, Any]:
    """Return a mapping of a machine kind by names."""
    found = entry.get(key) or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{what}: {key} must be a mapping of names to values, got {shown(found)}")
    return {_text(name): value for name, value in found.items()}


def _whole(
    tree: Mapping[str, Any], key: str, default: int, what: str, *, lowest: int = 0, highest: int | None = None
) -> int:
    value = tree.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest or (highest and value > highest):
        limits = f"{lowest} to {highest}" if highest else f"at least {lowest}"
        raise ValueError(f"{what}: {key} must be a whole number, {limits}, got {shown(value)}")
    return value
