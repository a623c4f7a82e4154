"""The ``links`` section of a configuration: codecs for the values that parties send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_serializer, model_validator

from raysplit.cluster.codecs import IDENTITY, codec_for
from raysplit.cluster.codecs.adaptive import Adaptive, Kept
from raysplit.cluster.codecs.codec import Codec
from raysplit.cluster.codecs.lossless import Chain
from raysplit.cluster.codecs.sparse import Selected, TopK
from raysplit.cluster.codecs.weights import Feedback
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.rules import LinkRules, SingleRule
from raysplit.registry import one_of, shown
from raysplit.schedulers.rules import Rules

_CODED: tuple[Kind, ...] = ("smashed", "gradients", "weights")
AUTO = "auto"
"""The section whose codecs are chosen."""
NARROW = "narrow"
"""The name under which labels are sent as the smallest integer type."""

_EXACT = "labels are exact integers, which no codec may change, got {}; leave it out, or set links.labels to narrow"

Codecs = str | dict[str, Any] | list[Any]
"""A codec: a name, options as in ``{codec: int4, by: tile}``, or several that follow one another, ``[int4, zstd]``."""


class LinkRule(Rules):
    """A codec for what some parties send, instead of that of the kind."""

    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(alias="from")
    """Name of the sending party, or a pattern such as ``owner-*``."""
    kind: Literal["smashed", "gradients", "weights"]
    """Kind of value."""
    codec: Codecs
    """Codec, as for a kind."""

    @model_validator(mode="before")
    @classmethod
    def _names_the_sender(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "to" in value:
            raise ValueError(
                f"to: {shown(value['to'])} would code one value differently for its receivers, and the party that "
                f"makes a value codes it once for all of them; leave to out, and name the sender in from"
            )
        return value

    @field_validator("kind", mode="before")
    @classmethod
    def _is_kind(cls, value: Any) -> Any:
        if value == "labels":
            raise ValueError(_EXACT.format("a codec for labels"))
        return one_of("kind of value", value, _CODED) if isinstance(value, str) else value

    _is_codec = field_validator("codec", mode="before")(lambda cls, value: _checked(value))

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {"from": self.source, "kind": self.kind, "codec": self.codec}


class LinkOptions(Rules):
    """Codec for each kind of value that crosses a link: a name or import path, a name with options, or a list."""

    smashed: Codecs = IDENTITY
    """Codec of the outputs of a part, which go to the next part."""
    gradients: Codecs = IDENTITY
    """Codec of the gradients of smashed data, which go back."""
    weights: Codecs = IDENTITY
    """Codec of the weights that go to and from an aggregator."""
    labels: str = IDENTITY
    """Form of labels: ``identity``, or ``narrow`` for class labels in the smallest integer type that holds them. No
    codec may change labels, which are exact integers."""
    rules: tuple[LinkRule, ...] = ()
    """Codecs of single parties, as ``{from: owner-*, kind: weights, codec: top_k}``; the first that fits counts."""

    warmup_rounds: int = Field(default=0, ge=0)
    """Number of rounds at the start in which all values but labels are sent unchanged."""

    report_every: int | None = Field(default=None, ge=1)
    """Number of rounds between rounds whose metrics have the relative squared error of the codecs for each kind of
    value, such as ``smashed_rel_mse``, and for the weights that owners send; null never measures it."""

    auto: bool = False
    """Whether the codecs of smashed data and gradients are chosen for the links of the topology, as by ``raysplit plan
    --codecs auto``; ``links: auto`` is short for it."""
    budget_z: float = Field(default=0.01, ge=0)
    """With ``auto``: largest relative squared error of smashed data, over all cuts together."""
    budget_g: float = Field(default=0.1, ge=0)
    """With ``auto``: largest relative squared error of gradients, over all cuts together."""

    @model_validator(mode="before")
    @classmethod
    def _short_for(cls, value: Any) -> Any:
        return {"auto": True} if value == AUTO else value

    _are_codecs = field_validator(*_CODED, mode="before")(lambda cls, value: _checked(value))

    @field_validator(*_CODED)
    @classmethod
    def _fits(cls, value: Codecs, info: ValidationInfo) -> Codecs:
        kind = cast(Kind, info.field_name)
        codec = codec_for(kind, value)
        if kind == "weights" and codec is not None and codec.needs_reference:
            raise ValueError(
                f"{type(_plain(codec)).__name__} codes differences of weights, which only owners send; leave weights "
                f"out and set links.rules: [{{from: owner-*, kind: weights, codec: ...}}]"
            )
        return value

    @field_validator("labels", mode="before")
    @classmethod
    def _as_they_are(cls, value: Any) -> Any:
        if value not in (IDENTITY, NARROW):
            raise ValueError(_EXACT.format(shown(value)))
        return value

    @field_validator("rules")
    @classmethod
    def _fit(cls, value: tuple[LinkRule, ...]) -> tuple[LinkRule, ...]:
        for rule in value:
            codec = codec_for(rule.kind, rule.codec)
            if rule.kind == "smashed" and getattr(_first(codec), "gradient", None) == "through":
                raise ValueError(
                    f"gradient: through in a rule (from: {rule.source}): the next party sends gradients to all parties "
                    f"alike; set the codec as links.smashed, or leave gradient out"
                )
            is_difference = rule.kind == "weights" and codec is not None and codec.needs_reference
            if codec is not None and is_difference and fnmatchcase("aggregator", rule.source):
                raise ValueError(
                    f"{type(_plain(codec)).__name__} codes differences of weights, which only owners send, and from: "
                    f"{rule.source} fits the aggregator too; set from: owner-*"
                )
        return value

    @model_validator(mode="after")
    def _fit_one_another(self) -> LinkOptions:
        self.link_rules()
        if self.auto and (where := self._chosen_twice()):
            raise ValueError(
                f"auto chooses the codecs of smashed data and gradients, and {where} has one; leave it out"
            )
        usual = {key: type(self).model_fields[key].default for key in ("budget_z", "budget_g")}
        given = [key for key, value in usual.items() if getattr(self, key) != value]
        if given and not self.auto:
            raise ValueError(f"{given[0]} is for auto: true, which is not set; set it, or leave {given[0]} out")
        if self.warmup_rounds and not self.auto and not self.link_rules().all_codecs:
            raise ValueError(
                f"warmup_rounds is {self.warmup_rounds} and no codec comes after them; leave warmup_rounds out, or set "
                f"a codec such as smashed: int8"
            )
        if self.report_every and not self.auto and not any(codec.lossy for _, codec in self.link_rules().all_codecs):
            raise ValueError(
                f"report_every is {self.report_every} and no codec changes a value, so there are no errors to report; "
                f"leave report_every out, or set a codec such as smashed: int8"
            )
        return self

    def _chosen_twice(self) -> str | None:
        """Return the setting that has a codec which ``auto`` chooses; None if there is none."""
        given = [kind for kind in ("smashed", "gradients") if getattr(self, kind) != IDENTITY]
        given += ["rules" for rule in self.rules if rule.kind != "weights"]
        return given[0] if given else None

    def link_rules(self, *, seed: int = 0, num_classes: int = 0) -> LinkRules:
        """Return the processing of values on the links of a run."""
        found = {kind: codec_for(kind, getattr(self, kind)) for kind in _CODED}
        codecs = {kind: codec for kind, codec in found.items() if codec is not None}
        singles = [
            SingleRule(source=rule.source, kind=rule.kind, codec=codec_for(rule.kind, rule.codec))
            for rule in self.rules
        ]
        if "smashed" in codecs:
            codecs = self._with_chain_rule(codecs)
        first = [_first(codecs.get("smashed")), *(_first(rule.codec) for rule in singles if rule.kind == "smashed")]
        if any(isinstance(codec, Adaptive) for codec in first):
            codecs |= {"gradients": _of_kept(codecs.get("gradients"))}
            singles = [
                replace(rule, codec=_of_kept(rule.codec)) if rule.kind == "gradients" else rule for rule in singles
            ]
        return LinkRules(
            codecs=codecs,
            singles=tuple(singles),
            narrow_labels=self.labels == NARROW,
            num_classes=num_classes,
            seed=seed,
            warmup_rounds=self.warmup_rounds,
            report_every=self.report_every or 0,
        )

    def _with_chain_rule(self, codecs: dict[Kind, Codec]) -> dict[Kind, Codec]:
        """Add the codec of the gradients of selected smashed data, which need no positions."""
        parts = codecs["smashed"].codecs if isinstance(codecs["smashed"], Chain) else (codecs["smashed"],)
        first = parts[0]
        others = [rule.codec for rule in self.rules if rule.kind == "gradients"]
        others += [self.gradients] if "gradients" in codecs else []
        if not isinstance(first, TopK) or first.gradient == "own":
            return codecs
        if others and first.gradient == "through":
            raise ValueError(
                f"gradient: through sends the gradient of selected smashed data by the codec of these, and gradients "
                f"have another, {others[0]}; leave one of the two out"
            )
        if "gradients" in codecs:
            return codecs
        selected = Selected(first)
        return codecs | {"gradients": selected if len(parts) == 1 else Chain([selected, *parts[1:]])}


def _first(codec: Codec | None) -> Codec | None:
    return codec.codecs[0] if isinstance(codec, Chain) else codec


def _of_kept(codec: Codec | None) -> Codec:
    """Return a codec of gradients that leaves out the channels that were dropped on the way there."""
    if codec is None:
        return Kept()
    return Chain([Kept(), *(codec.codecs if isinstance(codec, Chain) else (codec,))])


def _plain(codec: Codec) -> Codec:
    return codec.codec if isinstance(codec, Feedback) else codec


def _checked(value: Any) -> Any:
    if not isinstance(value, str | dict | list | tuple):
        raise ValueError(f"a codec is a name, {{codec: name, ...}} or a list of these, got {value!r}; quote a string")
    return list(value) if isinstance(value, tuple) else value
