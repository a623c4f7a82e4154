"""What codecs cost and lose on one machine and model: the file that `raysplit codecs` writes and a topology names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from raysplit.cluster.codecs.codec import Codec
from raysplit.cluster.codecs.weights import Feedback
from raysplit.cluster.emulation.coding import CodingRate
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.rules import LinkRules

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class CodecCost:
    """A codec on the values of one kind at one cut.

    Attributes:
        kind: kind of value.
        cut: number of the cut, counted from 0; -1 for weights.
        codec: the codec as it is written in YAML.
        name: the codec with all its parameters.
        raw_bytes, coded_bytes: bytes of a batch without and with the codec.
        share: coded bytes in proportion to the largest size that the codec may have.
        error: |decoded - x|^2 / |x|^2.
        cosine: cosine of the decoded values and x.
        encode_ms_per_mib, decode_ms_per_mib: milliseconds for each MiB of x.
    """

    kind: Kind
    cut: int
    codec: Any
    name: str
    raw_bytes: int
    coded_bytes: int
    share: float
    error: float
    cosine: float
    encode_ms_per_mib: float
    decode_ms_per_mib: float

    @property
    def factor(self) -> float:
        """Uncoded bytes in proportion to the coded ones."""
        return self.raw_bytes / self.coded_bytes

    @property
    def coding_ms(self) -> float:
        """Milliseconds of encoding and decoding a batch."""
        return (self.encode_ms_per_mib + self.decode_ms_per_mib) * self.raw_bytes / _MIB

    @property
    def break_even_bytes_per_s(self) -> float:
        """Rate of a link below which coding saves time, where nothing overlaps."""
        saved = self.raw_bytes - self.coded_bytes
        return 1e3 * saved / self.coding_ms if saved > 0 and self.coding_ms > 0 else 0.0

    @property
    def rate(self) -> CodingRate:
        """Seconds for each byte."""
        encode, decode = self.encode_ms_per_mib / (1e3 * _MIB), self.decode_ms_per_mib / (1e3 * _MIB)
        return CodingRate(encode_s_per_byte=encode, decode_s_per_byte=decode)


@dataclass(frozen=True, kw_only=True)
class CodecCosts:
    """The costs of several codecs.

    Attributes:
        device: name of the machine.
        model: name of the model.
        cuts: cuts of the model.
        batch_size: samples of a batch.
        costs: the costs, by kind and cut.
    """

    device: str
    model: str
    cuts: tuple[Any, ...]
    batch_size: int
    costs: tuple[CodecCost, ...]

    def write(self, path: Path) -> None:
        """Write a file of JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def of(self, kind: Kind, codec: Codec, cut: int | None = None) -> CodecCost:
        """Return the cost of a codec for a kind, at a cut or at the first that has it.

        Raises:
            ValueError: the codec was not measured for this kind.
        """
        plain = codec.codec if isinstance(codec, Feedback) else codec
        found = [cost for cost in self.costs if cost.kind == kind and cost.name == repr(plain)]
        for cost in found:
            if cut is None or cost.cut == cut:
                return cost
        measured = sorted({str(cost.codec) for cost in self.costs if cost.kind == kind})
        raise ValueError(
            f"{plain!r} for {kind} is not among the measured codecs ({', '.join(measured) or 'none'}); raysplit codecs "
            f"--output measures those of this configuration"
        )


@lru_cache(maxsize=4)
def load_codec_costs(path: str) -> CodecCosts:
    """Read the file that `raysplit codecs` has written. Raises ``ValueError`` for any other."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        costs = tuple(CodecCost(**row) for row in content.pop("costs"))
        return CodecCosts(**{**content, "cuts": tuple(content["cuts"])}, costs=costs)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; raysplit codecs --output writes it") from None
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a file of raysplit codecs --output: {error}") from None


@dataclass(frozen=True)
class RunRates:
    """The rates of the codecs that a run uses.

    Attributes:
        rules: codecs of the run.
        costs: measured costs.
    """

    rules: LinkRules
    costs: CodecCosts

    def rate(self, source: str, kind: str, step: Any = None) -> CodingRate | None:
        """Return the rate of what a party sends of this kind in a step; None if it is not coded."""
        codec = None if self.rules.is_warmup(step) else self.rules.codec(source, kind)  # type: ignore[arg-type]
        return None if codec is None else self._rates[kind, repr(codec)]

    @cached_property
    def _rates(self) -> Mapping[tuple[str, str], CodingRate]:
        return {(kind, repr(codec)): self.costs.of(kind, codec).rate for kind, codec in self.rules.all_codecs}


def with_expected_sizes(rules: LinkRules, costs: CodecCosts) -> LinkRules:
    """Return the rules with the measured sizes of codecs whose sizes depend on values."""

    def share(kind: Kind, codec: Codec | None) -> float:
        return costs.of(kind, codec).share if codec is not None and codec.size_depends_on_values else 1.0

    singles = [replace(rule, expected=share(rule.kind, rule.codec)) for rule in rules.singles]
    expected = {kind: share(kind, codec) for kind, codec in rules.codecs.items()}
    return replace(rules, expected=expected, singles=tuple(singles))
