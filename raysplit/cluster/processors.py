"""The kinds of processors of a run, on which the bits of some codecs depend."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

import torch

from raysplit.cluster.links.rules import LinkRules

logger = logging.getLogger(__name__)


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the kind of this machine's processor, with the instructions for which torch chooses its kernels."""
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(names, platform.processor() or platform.machine())
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


class Processors:
    """The processors of the places of a run, whose differences are logged where a codec's bits depend on them.

    Args:
        rules: codecs of the run.
    """

    def __init__(self, rules: LinkRules) -> None:
        self._codecs = sorted({repr(codec) for _, codec in rules.all_codecs if not codec.is_portable})
        self._first: dict[str, str] = {}  # the first place of each kind

    def add(self, place: str, kind: str) -> None:
        """Note the processor of a place, and log it if it is another kind than those before it."""
        if self._codecs and kind not in self._first and self._first:
            other, there = next(iter(self._first.items()))
            logger.warning(
                "%s gives other bits on other kinds of processors: %s has %s, and %s has %s; the weights depend on "
                "which place does what, so runs can be repeated bit for bit only on one kind",
                " and ".join(self._codecs),
                place,
                kind,
                there,
                other,
            )
        self._first.setdefault(kind, place)
