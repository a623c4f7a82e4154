"""Where models of torchvision, timm and transformers can be cut: a JSON line for each, appended as it is done.

    python benchmarks/models/table.py --output table.jsonl
    python benchmarks/models/table.py --output table.jsonl --only hf:
    python benchmarks/models/table.py --output table.jsonl --report

Each model is traced in a process of its own, without what other models have left. A line has the front end, the places
where the model can be cut and all of them, CPU seconds and the highest memory of the trace and of the check that the
graph is the model, above what the built model takes, and whether three parts, cut at one and two thirds of the places,
have outputs, gradients and buffers of the graph uncut in bits, in both modes. Models whose tied weights are at both
ends are cut for a party that has both. Started again, it goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from models import specs
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from raysplit.actors.parts.leaves import as_tuple, gradients, leaves
from raysplit.data.inputs import Values, feed
from raysplit.models.cutting.dropout import dropout_stream
from raysplit.models.spec import ModelSpec
from raysplit.seeding import torch_generator

ROWS = 2
_INSTALLED = re.compile(r"\S*/site-packages/")
"""The folder of a machine, in the line that a message names."""


def memory(kind: str) -> int:
    """Return memory of this process in bytes: ``VmRSS`` now, ``VmHWM`` at its highest since it was last reset."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) * 1024


def step(parts: Sequence[nn.Module], batch: Values, training: bool) -> list[Tensor | None]:
    """Return output, gradients and buffers after a pass across the cuts, in an order that does not depend on them."""
    for part in parts:
        part.train(training)
        part.zero_grad()
    with dropout_stream(0):  # the masks of a step do not depend on the cuts
        outputs, entered = [as_tuple(feed(parts[0], batch))], []
        for part in parts[1:]:
            entered.append(leaves(outputs[-1]))
            outputs.append(as_tuple(part(*entered[-1])))
    answers = [z for z in pytree.tree_leaves(outputs[-1]) if isinstance(z, Tensor)]  # some answer by name
    sum(z.pow(2).sum() for z in answers if z.is_floating_point()).backward()
    for z, received in zip(reversed(outputs[:-1]), reversed(entered), strict=True):
        pairs = [(a, g) for a, g in zip(z, as_tuple(gradients(received)), strict=True) if a.requires_grad]
        torch.autograd.backward([a for a, _ in pairs], [g for _, g in pairs])
    found = {f"w {n}": p.grad for part in parts for n, p in part.named_parameters()}
    found |= {f"b {n}": b for part in parts for n, b in part.named_buffers()}
    return [*[z.detach() for z in answers], *[found[name] for name in sorted(found)]]


def largest_difference(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> float:
    """Return the largest difference as a share of a tensor's largest entry; 0 where all are equal in bits."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x is None or y is None:
            worst = max(worst, 0.0 if x is y else float("inf"))
        elif not torch.equal(x, y):
            x, y = x.double(), y.double()
            worst = max(worst, float((x - y).abs().max() / x.abs().max().clamp(min=1e-30)))
    return worst


def measure(spec: ModelSpec) -> dict[str, Any]:
    """Trace, check and cut one model."""
    try:
        spec.build()
        Path("/proc/self/clear_refs").write_text("5")
        before, began_s = memory("VmRSS"), time.process_time()
        spec = spec.with_front_end()
        spec.check_cuttable()
        spent_s, above = time.process_time() - began_s, memory("VmHWM") - before
        traced = spec.traced()
        if not traced.cut_points:  # all places are between tied weights, which one party must have
            spec = replace(spec, ends="together")
            traced = spec.traced()
    except ValueError as reason:
        return {"refused": _INSTALLED.sub("", str(reason))}
    except Exception as error:  # a fault of ours, which ends no table
        return {"refused": f"{type(error).__name__}: {error}"}
    cuttable = [point.name for point in traced.cut_points]
    if not cuttable:
        objections = Counter(str(traced.objection(position)) for position in range(1, traced.crossings.end))
        return {"refused": f"no cut in {objections.total()} positions: {objections.most_common(1)[0][0]}"}
    row = {
        "front_end": traced.front_end,
        "places": len(cuttable),
        "ends": spec.ends,
        "positions": traced.crossings.end - 1,
        "units": len(traced.units),
        "parameters": sum(p.numel() for p in traced.root.parameters()),
        "trace_and_check_s": round(spent_s, 2),
        "memory_mib": round(above / 2**20, 1),
    }
    cuts = [cuttable[len(cuttable) // 3], cuttable[2 * len(cuttable) // 3]]
    lengths = [23, 17] if any(entry.ragged for entry in dict(spec.inputs).values()) else None
    batch = spec.example(ROWS, lengths=lengths, generator=torch_generator(0, "table"))
    for mode, training in (("training", True), ("evaluation", False)):
        try:
            whole, parts = (step(traced.copy().cut(c), batch, training) for c in ([], cuts))
            row[mode] = largest_difference(whole, parts)
        except Exception as error:  # a mode or a size that the model itself does not take
            row[mode] = f"{type(error).__name__}: {str(error)[:100]}"
    return {**row, "cuts": cuts}


def in_a_process(spec: ModelSpec) -> dict[str, Any]:
    """Measure a model in a copy of this process."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(measure, (spec,))


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        "| model | front end | cut points of positions | units | s | MiB | parts = whole |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['model']} | none | {row['refused'].splitlines()[-1].strip()[:160]} | | | | |")
            continue
        found = {mode: row[mode] for mode in ("training", "evaluation")}
        equal = "bits" if set(found.values()) == {0.0} else ", ".join(f"{m} {_said(v)}" for m, v in found.items())
        lines.append(
            f"| {row['model']} | {row['front_end']}{', U-shaped' if row.get('ends') == 'together' else ''} | "
            f"{row['places']:,} of {row['positions']:,} | {row['units']} | "
            f"{row['trace_and_check_s']:.1f} | {row['memory_mib']:.0f} | {equal} |"
        )
    return "\n".join(lines)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else "bits" if value == 0 else f"{value:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default="", help="beginning of the names of the models")
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.output.read_text().splitlines()] if given.output.exists() else []
    if given.report:
        print(report(rows))
        return
    torch.set_num_threads(1)
    done = {row["model"] for row in rows}
    for name, spec in specs().items():
        if name.startswith(given.only) and name not in done:
            row = {"model": name, **in_a_process(spec)}
            with given.output.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row)[:200], flush=True)


if __name__ == "__main__":
    main()
