"""What cuts leak on real data: one line for each measurement, appended as it ends.

    python benchmarks/privacy/leakage.py --output leakage.jsonl                       # digits, which are bundled
    python benchmarks/privacy/leakage.py --output leakage.jsonl --data FashionMNIST CIFAR10 --root DATA
    python benchmarks/privacy/leakage.py --output leakage.jsonl --report

Started again, it goes on with what is missing. Every measurement is one that ``raysplit leak`` makes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

from scipy.stats import spearmanr

import raysplit
from raysplit.attacks.pace import Pace
from raysplit.config.run import RunConfig, check_config
from raysplit.privacy.leak import inversions, trials
from raysplit.privacy.leak.cheap import cheap
from raysplit.privacy.leak.outcome import rounded
from raysplit.privacy.leak.run import built, one_thread
from raysplit.privacy.leak.trials import Material
from raysplit.privacy.seen.rows import SAME, sampled
from raysplit.privacy.seen.subject import Subject
from raysplit.privacy.seen.views import sight_of

MODELS = {"digits": "cnn8", "FashionMNIST": "cnn4", "CIFAR10": "cnn_cifar"}
CUTS = (1, 2, 3, 4)
EPOCHS = {"digits": 15, "FashionMNIST": 5, "CIFAR10": 5}
SAMPLES: dict[str, dict[str, int]] = {
    "digits": {},
    "FashionMNIST": {"train_samples": 8000, "test_samples": 2000},
    "CIFAR10": {"train_samples": 8000, "test_samples": 2000},
}


FEW = {"train_samples": 500}
"""So few samples that a network learns each of them by heart."""
FEW_EPOCHS = 60


def settings(
    data: str,
    seed: int,
    root: str | None,
    algorithm: dict[str, Any],
    *,
    few: bool = False,
    privacy: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The settings of a run of two owners."""
    section: dict[str, Any] = {"name": data, **SAMPLES[data], **(FEW if few else {})}
    if root is not None and data != "digits":
        section |= {"root": root, "augment": False}
    return {
        "seed": seed,
        "model": {"name": MODELS[data]},
        "data": section,
        "partition": {"num_owners": 2},
        "algorithm": algorithm,
        "training": {
            "rounds": FEW_EPOCHS if few else EPOCHS[data],
            "batch_size": 32,
            "optimizer": {"lr": 0.02, "momentum": 0.9},
        },
        "privacy": privacy or {},
        "evaluation": {"every": 100},
        "reliability": {"checkpoint_every": None},
        "cluster": {"kind": "local"},
    }


@cache
def material(
    data: str, seed: int, root: str | None, algorithm: str, few: bool = False, privacy: str = "{}"
) -> tuple[Material, float]:
    """A trained run and its accuracy; ``algorithm`` and ``privacy`` are JSON."""
    given, result = attackable(
        check_config(settings(data, seed, root, json.loads(algorithm), few=few, privacy=json.loads(privacy)))
    )
    return given, result.accuracy


def attackable(config: RunConfig) -> tuple[Material, raysplit.Result]:
    """Train, and return what attacks on the first owner are about, with the result."""
    result = raysplit.train(config)
    experiment = built(config, None)
    bound = experiment.begin()
    spec = bound.spec_of("global")
    samples = sampled(experiment, config, "owner-0", spec, rows=256, aux=SAME, seed=config.seed)
    subject = Subject(
        spec=spec, state=result.states["global"], samples=samples, batch_size=experiment.batch_size, seed=config.seed
    )
    given = Material(
        experiment=experiment,
        algorithm=bound,
        owner="owner-0",
        subject=subject,
        sight=sight_of(bound, "owner-0"),
        guards_gradients=False,
        rounds=(0, "last"),
        knows=None,
    )
    return given, result


def at_cut(given: Material, cut: int) -> inversions.Scene:
    """The scene at a cut other than that of the run, whose weights are the same."""
    view = replace(given.sight.views[0], cut=cut)
    return inversions.Scene(subject=given.subject, sight=given.sight, view=view)


SPLIT = json.dumps({"name": "splitnn", "cut": 2})


def order(data: str, cut: int, seed: int, root: str | None) -> list[dict[str, Any]]:
    """The decoder of the present weights, and the cheap measures, at a cut."""
    given, accuracy = material(data, seed, root, SPLIT)
    found = inversions.inverted(at_cut(given, cut), "present", Pace())
    return [{**found.row, "accuracy": accuracy, **cheap(given.subject, cut, "present")}]


def by_name(
    attack: str, data: str, algorithm: str, seed: int, root: str | None, few: bool = False, privacy: str = "{}"
) -> list[dict[str, Any]]:
    """All trials of an attack on a run."""
    given, accuracy = material(data, seed, root, algorithm, few, privacy)
    return tried(attack, given, accuracy)


def strangers(data: str, algorithm: str, seed: int, root: str | None) -> list[dict[str, Any]]:
    """Membership of samples that the run has never seen, which nothing can tell: those of another run."""
    given, accuracy = material(data, seed, root, algorithm, True)
    other, _ = material(data, seed + 100, root, algorithm, True)
    samples = replace(given.subject.samples, victims=other.subject.samples.victims)
    return tried("membership", replace(given, subject=replace(given.subject, samples=samples)), accuracy)


def tried(attack: str, given: Material, accuracy: float) -> list[dict[str, Any]]:
    """What an attack gets from a run."""
    found = [outcome for trial in trials.trials_of(attack, given) for outcome in trial.run(Pace())]
    return [{**outcome.row, "accuracy": accuracy} for outcome in found]


Work = Callable[[], list[dict[str, Any]]]


def measurements(data: str, seed: int, root: str | None) -> Iterator[tuple[str, Work]]:
    """The measurements of a data set, each with its key."""
    for cut in CUTS:
        yield f"order {data} {cut}", partial(order, data, cut, seed, root)
    tails = {"digits": [(1, 2), (1, 3)], "FashionMNIST": [(1, 2), (1, 3)]}.get(data, [])
    for cuts in tails:
        ends = json.dumps({"name": "mpsl", "cuts": list(cuts)})
        yield f"labels {data} {cuts[1]}", partial(by_name, "labels", data, ends, seed, root)
    whole = json.dumps({"name": "fedavg"})
    if data == "digits":
        for attack in ("inverse", "inverse_affine", "unsplit", "pseudo_client", "sdar"):
            yield f"{attack} {data} 2", partial(by_name, attack, data, SPLIT, seed, root)
        yield f"gradient {data}", partial(by_name, "gradient", data, whole, seed, root)
        part = json.dumps({"name": "splitfed_v1", "cut": 2})
        yield f"gradient {data} part", partial(by_name, "gradient", data, part, seed, root)
        noise = json.dumps({"z": {"clip": 4, "noise": 0.2}, "rehearsal": True})
        yield f"gradient {data} part, noisy z", partial(by_name, "gradient", data, part, seed, root, False, noise)
        yield f"membership {data}", partial(by_name, "membership", data, whole, seed, root)
    if data == "FashionMNIST":
        yield f"membership {data}, 500 pictures", partial(by_name, "membership", data, whole, seed, root, True)
        yield f"membership {data}, strangers", partial(strangers, data, whole, seed, root)


def read(path: Path) -> list[dict[str, Any]]:
    """The lines that are there, without a last one that was cut short."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def report(lines: list[dict[str, Any]]) -> str:
    """Markdown tables: medians over seeds."""
    rows = [{**row, "key": line["key"], "seed": line["seed"]} for line in lines for row in line["rows"]]
    seeds = sorted({row["seed"] for row in rows})
    text = [f"Medians of seeds {', '.join(map(str, seeds))}.", ""]
    text += ["| data, cut | ssim (chance) | nmse | leak_fisher | dcor2 | accuracy |", "|---|---|---|---|---|---|"]
    cuts: dict[str, list[tuple[float, float, float]]] = {}
    for key in dict.fromkeys(row["key"] for row in rows if row["key"].startswith("order")):
        of = partial(_median, [row for row in rows if row["key"] == key])
        found = (of("ssim"), of("leak_fisher"), of("dcor2_unbiased"))
        cuts.setdefault(key.split()[1], []).append(found)
        text.append(
            f"| {key.removeprefix('order ')} | {of('ssim'):.3f} ({of('ssim_chance'):.3f}) | {of('nmse'):.3f} | "
            f"{of('leak_fisher'):.3f} | {of('dcor2_unbiased'):.3f} | {of('accuracy'):.3f} |"
        )
    text.append("\nSpearman's rank correlation with ssim over the cuts:\n")
    for data, chosen in [*cuts.items(), ("all", [one for some in cuts.values() for one in some])]:
        if len(chosen) > 2:
            ssim, fisher, dcor = zip(*chosen, strict=True)
            ranks = [float(spearmanr(ssim, other).statistic) for other in (fisher, dcor)]
            text.append(f"* {data}: leak_fisher {ranks[0]:.2f}, dcor2 {ranks[1]:.2f}")
    text.append("")
    text += ["| attack | knows | round | figure (chance) | gain |", "|---|---|---|---|---|"]
    others = [row for row in rows if not row["key"].startswith("order")]
    for group in dict.fromkeys(map(_group, others)):
        same = [row for row in others if _group(row) == group]
        figure = next(name for name in ("ssim", "label_accuracy", "auc", "nmse") if name in same[0])
        of = partial(_median, same)
        shown = f"{figure} {of(figure):.3f} ({of(f'{figure}_chance'):.3f})"
        text.append(f"| {group[0]}: {group[1]} | {group[2]} | {group[3]} | {shown} | {of('gain'):.2f} |")
    return "\n".join(text)


def _group(row: dict[str, Any]) -> tuple[str, str, str, str]:
    batch = f" b={row['batch']}" if "batch" in row else ""
    return row["key"], f"{row['name']}{batch}", f"{row['knows']}/{row['data']}", str(row["round"])


def _median(rows: list[dict[str, Any]], name: str) -> float:
    return median(row[name] for row in rows)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what measurements on several data sets take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=[*MODELS], default=["digits"])
    parser.add_argument("--root", help="Folder of torchvision's sets.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--report", action="store_true")
    return parser


def main() -> None:
    """Measure what is missing, or print the tables."""
    given = arguments(__doc__).parse_args()
    if given.report:
        print(report(read(given.output)))
        return
    done = {(line["key"], line["seed"]) for line in read(given.output)}
    for seed in given.seeds:
        for data in given.data:
            for key, work in measurements(data, seed, given.root):
                if (key, seed) not in done:
                    with one_thread():
                        rows = rounded(work())
                    with given.output.open("a") as file:
                        file.write(f"{json.dumps({'key': key, 'seed': seed, 'rows': rows})}\n")


if __name__ == "__main__":
    main()
