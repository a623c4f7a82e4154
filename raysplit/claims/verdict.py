"""Verdicts: what the records of a protocol say of each claim, by the rule that was fixed with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from statistics import fmean
from typing import Any

from raysplit.claims.claim import Claim, Condition, Decision
from raysplit.claims.protocol import ARM, SEED, Protocol, cells
from raysplit.claims.records import Record
from raysplit.registry import number_of
from raysplit.sweeps.paired import VALIDATION_LOSS, Interval, interval, lowest, paired

CPU_S = "cpu_s"
"""Name by which a claim calls the processor seconds of a run, which are no column of its metrics."""
_UNITS = {"points": " points", "percent": " %", "plain": ""}


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was found under one condition."""

    label: str
    found: Interval | None
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the runs say of a claim."""

    claim: Claim
    decision: Decision
    ours: str
    lines: tuple[Line, ...] = ()


def verdicts(protocol: Protocol, records: Sequence[Record]) -> list[Verdict]:
    """Decide every claim of a protocol by its records."""
    good = [record for record in records if record.failed is None]
    failed = len(records) - len(good)
    found = [_verdict(protocol, claim, list(records) if claim.choose else good) for claim in protocol.claims]
    if not failed:
        return found
    note = f" (left out: {number_of(failed, 'diverged run')})"
    return [
        Verdict(claim=v.claim, decision=v.decision, ours=v.ours + note, lines=v.lines) if v.lines else v for v in found
    ]


def _verdict(protocol: Protocol, claim: Claim, records: Sequence[Record]) -> Verdict:
    if claim.kind == "tested":
        return Verdict(claim=claim, decision=claim.decision, ours=claim.ours)
    if claim.kind == "computed":
        decision, ours = resolve_name(claim.evidence)()
        return Verdict(claim=claim, decision=decision, ours=ours)
    if claim.kind == "equal":
        return _equal(protocol, claim, records)
    if claim.kind == "widest":
        return _widest(protocol, claim, records)
    lines = tuple(
        _line(claim, condition, list(_differences(protocol, claim, condition, records).values()))
        for condition in claim.where
    )
    return Verdict(claim=claim, decision=overall(claim, lines), ours=_text(claim, lines), lines=lines)


def _line(claim: Claim, condition: Condition, differences: Sequence[float]) -> Line:
    found = interval(differences)
    return Line(label=condition.label, found=found, decision=decided(found, claim))


def decided(found: Interval | None, claim: Claim) -> Decision:
    """Decide by an interval: shown above ``least``, refuted below it."""
    if found is None:
        return "not run"
    if found.count < claim.seeds:
        return "not decided"
    if found.low > claim.least:
        return "shown"
    return "refuted" if found.high < claim.least else "not decided"


def overall(claim: Claim, lines: Sequence[Line]) -> Decision:
    """Decide a claim by its lines: all of them must be shown, or one."""
    seen = {line.decision for line in lines}
    if seen == {"not run"}:
        return "not run"
    decisive: Decision
    for decisive, of_all in (("shown", claim.need == "all"), ("refuted", claim.need == "any")):
        if (seen == {decisive}) if of_all else (decisive in seen):
            return decisive
    return "not decided"


# -- values of runs ----------------------------------------------------------------------------------------------------


def _chosen_side(
    protocol: Protocol, claim: Claim, side: Mapping[str, Any], condition: Condition, records: Sequence[Record]
) -> dict[int, list[Record]]:
    """Return by seed the runs of one side: one, or one for each value of the settings that are chosen.

    A seed of which not all these values were run is left out, because a choice among fewer is another choice.
    """
    arm = protocol.arms[side[ARM]]
    wanted = {k: v for k, v in {**condition.set, **side}.items() if k not in arm.ignores}
    found: dict[int, list[Record]] = {}
    for record in records:
        if _without(record.values, claim) == wanted:
            found.setdefault(record.values[SEED], []).append(record)
    if claim.choose:
        planned = Counter(cell.values[SEED] for cell in cells(protocol) if _without(cell.values, claim) == wanted)
        found = {seed: runs for seed, runs in found.items() if len(runs) >= planned[seed]}
    return found


def _without(values: Mapping[str, Any], claim: Claim) -> dict[str, Any]:
    """Return the settings of a run without its seed and what is chosen."""
    return {k: v for k, v in values.items() if k != SEED and k not in claim.choose}


def _value(claim: Claim, runs: Sequence[Record]) -> float | None:
    """Return the value of the side of a seed: of its run, or of the run and round that validation chooses."""
    if claim.column == CPU_S:
        return sum(run.cpu_s for run in runs)
    if claim.at == "chosen":
        best = lowest({n: run.columns.get(VALIDATION_LOSS, ()) for n, run in enumerate(runs)})
        return None if best is None else runs[best[0]].columns[claim.column][best[1]]
    values = [value for value in runs[0].columns.get(claim.column, ()) if value is not None]
    if not values:
        return None
    return fmean(values) if claim.at == "every" else values[-1]


def _differences(protocol: Protocol, claim: Claim, condition: Condition, records: Sequence[Record]) -> dict[int, float]:
    these, those = (
        {
            seed: value
            for seed, runs in sorted(_chosen_side(protocol, claim, side, condition, records).items())
            if (value := _value(claim, runs)) is not None
        }
        for side in (claim.this, claim.that)
    )
    return {seed: _scaled(claim, value, those[seed]) for seed, value in paired(these, those).items()}


def _scaled(claim: Claim, difference: float, that: float) -> float:
    signed = difference if claim.better == "higher" else -difference
    return signed * {"points": 100, "plain": 1}.get(claim.unit, 100 / abs(that) if that else float("inf"))


def _by_round(
    protocol: Protocol, claim: Claim, condition: Condition, records: Sequence[Record]
) -> Iterator[tuple[int, list[float]]]:
    these, those = (
        {seed: runs[0] for seed, runs in _chosen_side(protocol, claim, side, condition, records).items()}
        for side in (claim.this, claim.that)
    )
    seeds = sorted(these.keys() & those.keys())
    columns = [(these[s].columns[claim.column], those[s].columns[claim.column]) for s in seeds]
    for index in range(min((len(side) for pair in columns for side in pair), default=0)):
        values = [(a[index], b[index]) for a, b in columns if a[index] is not None and b[index] is not None]
        if values:
            yield index + 1, [_scaled(claim, a - b, b) for a, b in values]


def _widest(protocol: Protocol, claim: Claim, records: Sequence[Record]) -> Verdict:
    found = [
        (fmean(differences), condition, number, differences)
        for condition in claim.where
        for number, differences in _by_round(protocol, claim, condition, records)
        if len(differences) >= claim.seeds
    ]
    if not found:
        return Verdict(claim=claim, decision="not run", ours="–", lines=())
    _, condition, number, differences = max(found, key=lambda entry: entry[0])
    line = _line(claim, Condition(label=f"{condition.label}, round {number}".lstrip(", ")), differences)
    single = max(value for _, _, _, values in found for value in values)
    ours = f"{_text(claim, (line,))}; largest of one seed {single:+.3g}"
    return Verdict(claim=claim, decision=line.decision, ours=ours, lines=(line,))


def _equal(protocol: Protocol, claim: Claim, records: Sequence[Record]) -> Verdict:
    pairs, different = 0, []
    for condition in claim.where:
        these, those = (_chosen_side(protocol, claim, side, condition, records) for side in (claim.this, claim.that))
        for seed in these.keys() & those.keys():
            pairs += 1
            if these[seed][0].columns[claim.column] != those[seed][0].columns[claim.column]:
                different.append(f"{condition.label} seed {seed}")
    if not pairs:
        return Verdict(claim=claim, decision="not run", ours="–")
    ours = f"equal in {pairs - len(different)} of {pairs} pairs of runs"
    return Verdict(claim=claim, decision="refuted" if different else "shown", ours=ours)


def _text(claim: Claim, lines: Sequence[Line]) -> str:
    parts = [f"{line.label + ': ' if line.label else ''}{line.found}" for line in lines if line.found is not None]
    counts = sorted({line.found.count for line in lines if line.found is not None})
    if not parts:
        return "–"
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    return f"{'; '.join(parts)}{_UNITS[claim.unit]} ({seeds} seed{'s' if counts[-1] > 1 else ''})"


def as_data(found: Sequence[Verdict]) -> dict[str, dict[str, str]]:
    """Return verdicts as plain data by the name of the claim."""
    return {v.claim.name: {"decision": v.decision, "ours": v.ours} for v in found}


def from_data(protocol: Protocol, text: str) -> list[Verdict]:
    """Return the verdicts that were written as data; a claim without one is not run."""
    kept = json.loads(text).get(protocol.name, {})
    none = {"decision": "not run", "ours": "–"}
    return [Verdict(claim=claim, **kept.get(claim.name, none)) for claim in protocol.claims]
