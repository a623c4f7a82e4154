"""What the HTML page says about each run, read from its folder; a file that is damaged is named in its place."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from raysplit.cluster.contract import LinkTraffic
from raysplit.runs.html.bars import MOST_OWNERS, Bar, bars_of_waits
from raysplit.runs.html.charts import Chart, Series, line_chart
from raysplit.runs.metric import ACCURACY, LOSS
from raysplit.runs.records.damaged import Damaged
from raysplit.runs.records.read import Row, read_environment, read_metrics, read_traffic
from raysplit.runs.records.tables import read_about_data, read_prediction, read_waits
from raysplit.runs.report import Point, RunReport, common_metric
from raysplit.runs.report_page import formatted

T = TypeVar("T")
MOST_CLASSES = 40
_KINDS = ("smashed", "gradients", "weights", "labels", "other")
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class OwnerRow:
    """An owner in the map: its samples, and for each class the share of its samples and the count."""

    name: str
    samples: int
    cells: tuple[tuple[float, int], ...]


@dataclass(frozen=True, kw_only=True)
class OwnerMap:
    """Who holds what: the classes, a row for each owner, and how many owners are not shown."""

    classes: tuple[str, ...]
    rows: tuple[OwnerRow, ...]
    hidden: int


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A predicted and a measured time, with their difference in percent."""

    what: str
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> str:
        return f"{(self.predicted_s - self.measured_s) / self.measured_s:+.1%}" if self.measured_s else ""


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """All about one run, as the page shows it; a part is empty where the folder does not have it."""

    number: int
    report: RunReport
    is_whole: bool
    kinds: tuple[str, ...]
    links: tuple[Bar, ...]
    num_bytes: str
    raw_bytes: str
    waits: tuple[Bar, ...]
    waits_of: str
    owners: OwnerMap | None
    same_owners: str
    prediction: tuple[Pair, ...]
    pace: str
    settings: tuple[tuple[str, Any], ...]
    environment: str
    damage: tuple[str, ...]

    @property
    def quoted(self) -> str:
        """The folder as a shell takes it."""
        return shlex.quote(str(self.report.folder))


def run_pages(reports: Sequence[RunReport]) -> list[RunPage]:
    """Read what the page says about each run; a map of owners that an earlier run has is not shown again."""
    pages: list[RunPage] = []
    for number, report in enumerate(reports):
        page = run_page(number, report)
        same = next((each for each in pages if page.owners is not None and each.owners == page.owners), None)
        pages.append(page if same is None else replace(page, same_owners=same.report.label))
    return pages


def run_page(number: int, report: RunReport) -> RunPage:
    """Read what the page says about a run."""
    damage: list[str] = []

    def found(read: Callable[[Path], T], otherwise: T) -> T:
        try:
            return read(report.folder)
        except Damaged as damaged:
            damage.append(str(damaged))
            return otherwise

    none: tuple[LinkTraffic, ...] = ()
    traffic = found(read_traffic, none)
    kinds, links, raw = _links(traffic)
    waits, waits_of = bars_of_waits(found(read_waits, []))
    about = found(read_about_data, None)
    prediction = found(read_prediction, None)
    rows: list[Row] = found(read_metrics, [])
    if not links and rows:
        kinds, links, raw = _link_of_rows(rows)
    pairs = []
    if prediction is not None:
        named = {"a round": prediction.round_s, **prediction.busy_s}
        pairs = [
            Pair(what=what, predicted_s=a, measured_s=b) for what, (a, b) in list(named.items())[: MOST_OWNERS + 1]
        ]
    return RunPage(
        number=number,
        report=report,
        is_whole=report.rounds >= report.rounds_planned and report.stopped not in ("cut short", "diverged"),
        kinds=kinds,
        links=links,
        num_bytes=size(report.num_bytes),
        raw_bytes=size(raw) if raw > report.num_bytes else "",
        waits=waits,
        waits_of=waits_of,
        owners=_map(about.owners if about else None),
        same_owners="",
        prediction=tuple(pairs),
        pace=(prediction.pace or "") if prediction else "",
        settings=tuple(report.settings.items()),
        environment=_environment(found(read_environment, {})),
        damage=tuple(damage),
    )


def charts_of(runs: Sequence[RunReport]) -> list[Chart]:
    """Return the charts over all runs: the metric that they share by rounds, bytes and seconds, and the losses."""
    metric, naive = common_metric(runs), naive_of(runs)
    level = None if naive is None else (naive, f"ignores its inputs: {formatted(metric, naive)}")
    axes: dict[str, Callable[[Point], float]] = {
        "rounds": lambda point: point.round,
        "MiB sent": lambda point: point.num_bytes / _MIB,
        "seconds of training": lambda point: point.seconds,
    }
    charts = []
    for label, of in axes.items():
        series = [Series(name=run.label, points=_points(run, metric.name, of)) for run in runs]
        title = f"test {metric.name} by {label}"
        charts.append(line_chart(series, title=title, x_label=label, is_rate=metric.is_rate, level=level))
    losses = [Series(name=run.label, points=_losses(run)) for run in runs]
    charts.append(line_chart(losses, title="training loss by rounds", x_label="rounds"))
    if metric != LOSS:
        tested = [Series(name=run.label, points=_points(run, "loss", axes["rounds"])) for run in runs]
        charts.append(line_chart(tested, title="test loss by rounds", x_label="rounds"))
    return [chart for chart in charts if chart is not None]


def _points(run: RunReport, figure: str, of: Callable[[Point], float]) -> tuple[tuple[float, float], ...]:
    return tuple((of(point), value) for point in run.curve if (value := run.at(point, figure)) is not None)


def naive_of(runs: Sequence[RunReport]) -> float | None:
    """Return the shared metric of a model that ignores its inputs; None where the runs do not have the same one.

    For an accuracy without a task, it is the share of test samples of the class that most training samples have.
    """
    metric = common_metric(runs)
    found = {run.naive if run.naive is not None else _most_frequent(run) for run in runs if run.metric == metric}
    return found.pop() if len(found) == 1 else None


def _most_frequent(run: RunReport) -> float | None:
    try:
        about = read_about_data(run.folder)
    except Damaged:
        return None
    if run.metric != ACCURACY or about is None or len(about.targets) != 1:
        return None
    (target,) = about.targets.values()
    train, test = target.counts.get("train", ()), target.counts.get("test", ())
    if not train or len(train) != len(test) or not sum(test):
        return None
    return test[train.index(max(train))] / sum(test)


def _losses(run: RunReport) -> tuple[tuple[float, float], ...]:
    try:
        return tuple((row["round"], float(row["train_loss"])) for row in read_metrics(run.folder))
    except Damaged:
        return ()


def size(num_bytes: float) -> str:
    """Format a number of bytes."""
    for unit in ("B", "KiB", "MiB"):
        if abs(num_bytes) < 1024:
            return f"{num_bytes:,.0f} B" if unit == "B" else f"{num_bytes:,.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:,.1f} GiB"


def _links(traffic: Sequence[Any]) -> tuple[tuple[str, ...], tuple[Bar, ...], int]:
    """Return the kinds that crossed, a bar for each kind of link, and the bytes without codecs."""
    sizes: dict[tuple[str, str], Counter[str]] = {}
    messages: Counter[tuple[str, str]] = Counter()
    for link in traffic:
        key = (link.source.partition("-")[0], link.destination.partition("-")[0])
        of_kind = sizes.setdefault(key, Counter())
        for kind in link.kinds:
            of_kind[kind.kind] += kind.num_bytes
        of_kind["other"] += link.num_bytes - sum(kind.num_bytes for kind in link.kinds)
        messages[key] += link.num_messages
    most = max((sum(found.values()) for found in sizes.values()), default=0) or 1
    bars = [
        Bar(
            label=f"{source} → {destination}",
            text=f"{size(sum(sizes[source, destination].values()))} in {messages[source, destination]:,} messages",
            pieces=tuple((kind, 100 * sizes[source, destination][kind] / most) for kind in _KINDS),
        )
        for source, destination in sorted(sizes, key=lambda key: -sum(sizes[key].values()))
        if sum(sizes[source, destination].values())
    ]
    kinds = tuple(kind for kind in _KINDS if any(found[kind] for found in sizes.values()))
    return kinds, tuple(bars), sum(link.raw_bytes for link in traffic)


def _link_of_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[Bar, ...], int]:
    """Return what the metrics tell of a run whose links are not written yet."""
    total = sum(row["bytes"] for row in rows)
    bar = Bar(label="all links", text=f"{size(total)}; by link once the run has ended", pieces=(("other", 100.0),))
    return (), (bar,) if total else (), sum(row.get("raw_bytes", row["bytes"]) for row in rows)


def _map(owners: Any) -> OwnerMap | None:
    if owners is None or not owners.samples:
        return None
    labels = {label for counts in owners.classes.values() for label in counts}
    classes = sorted(labels, key=lambda label: (not label.isdigit(), int(label) if label.isdigit() else 0, label))
    shown = classes if len(classes) <= MOST_CLASSES else []
    rows = [
        OwnerRow(
            name=name,
            samples=samples,
            cells=tuple(_cell(owners.classes.get(name, {}), each, samples) for each in shown),
        )
        for name, samples in list(owners.samples.items())[:MOST_OWNERS]
    ]
    return OwnerMap(classes=tuple(shown), rows=tuple(rows), hidden=len(owners.samples) - len(rows))


def _cell(counts: Mapping[str, int], label: str, samples: int) -> tuple[float, int]:
    count = counts.get(label, 0)
    return (count / samples if samples else 0.0, count)


def _environment(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    packages = ", ".join(f"{name} {version}" for name, version in found.get("packages", {}).items())
    python, platform, cpus = (found.get(key, "?") for key in ("python", "platform", "cpus"))
    return (
        f"Python {python} on {platform}, {cpus} CPUs; {packages}; started {found.get('started', 'at an unknown time')}"
    )
