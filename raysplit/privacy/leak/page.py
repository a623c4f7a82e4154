"""What ``leak.json`` holds: the measured cuts, the attacks, a score, and what the owner's ledger promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysplit.guards.account.totals import accounts_in
from raysplit.privacy.leak.outcome import Outcome, rounded
from raysplit.privacy.leak.trials import Material
from raysplit.privacy.measures.score import attack_gain, score
from raysplit.privacy.seen.defended import described
from raysplit.runs.records.read import read_rows


def page_of(
    folder: Path,
    given: Material,
    undefended: float | None,
    outcomes: Sequence[Outcome],
    measured: Mapping[str, Any],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """Return what ``leak.json`` holds; ``undefended`` is the accuracy of the same run without defences."""
    accuracy = next((row["test_accuracy"] for row in reversed(read_rows(folder)) if "test_accuracy" in row), None)
    defence = described(given.experiment)
    undefended = undefended if defence else accuracy
    samples = given.subject.samples
    rows = [dict(outcome.row) for outcome in outcomes]
    page: dict[str, Any] = rounded(
        {
            "run": str(folder),
            "algorithm": given.experiment.method,
            "owner": given.owner,
            "cuts": [view.cut for view in given.sight.views],
            "samples": {"attacked": len(samples.victims), "aux": len(samples.aux), "aux_from": samples.aux_name},
            "defence": defence,
            "task": {"accuracy": accuracy, "undefended": undefended},
            "cheap": measured,
            "attacks": rows,
            "left_out": dict(left_out),
            "score": _score(rows, accuracy, undefended, given.subject.spec.num_classes),
            "ledger": _ledger(folder, given),
        }
    )
    return page  # typed above


def _ledger(folder: Path, given: Material) -> dict[str, Any]:
    """Return what the owner's ledger promises; without one, nothing is."""
    where = given.experiment.ledgers_in(folder)
    accounts = [] if where is None else accounts_in(Path(where))
    account = next((account for account in accounts if account.owner == given.owner), None)
    if account is None:
        what = "z leaves" if given.sight.views else "weights leave"
        return {"guarantee": "none", "epsilon": None, "reason": f"{what} without a mechanism"}
    total = account.total(given.experiment.setting.privacy.delta)
    return {"guarantee": total.guarantee, "epsilon": total.bound, "delta": total.delta, "reason": total.reason}


def _score(
    rows: Sequence[Mapping[str, Any]], accuracy: float | None, undefended: float | None, num_classes: int
) -> dict[str, Any] | None:
    """Score the strongest attack of each kind; None where there is no attack or no figure to compare the task with."""
    by_kind: dict[str, list[float]] = {}
    for row in rows:
        by_kind.setdefault(row["kind"], []).append(row["gain"])
    if not by_kind or accuracy is None or undefended is None:
        return None
    attack = attack_gain({kind: [max(gains)] for kind, gains in by_kind.items()})
    chance = 1 / num_classes
    lost = undefended - accuracy
    task = 1.0 if lost <= 0 else (accuracy - chance) / (undefended - chance) if undefended > chance else 0.0
    found = score(attack, task)
    return {"value": found.value, "AP": found.attack, "MP": found.task, "beta": found.beta}
