"""The base class of trackers: what a run tells them, and what happens when one fails."""

from __future__ import annotations

import json
import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from raysplit.disk import written
from raysplit.plain_yaml import flat
from raysplit.runs.callback import Callback
from raysplit.runs.records.files import TRACKED

if TYPE_CHECKING:
    from raysplit.experiment.experiment import Experiment
    from raysplit.runs.folder import Row
    from raysplit.runs.result import Result

logger = logging.getLogger(__name__)

End = Literal["finished", "failed", "stopped"]
"""How a run ended: at its end, by an error, or by a person."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a run at its start.

    Attributes:
        name: the name of the run.
        algorithm: the title of the algorithm.
        settings: the settings by their paths, such as ``training.optimizer.lr``.
    """

    name: str
    algorithm: str
    settings: Mapping[str, Any]


class Tracker(Callback):
    """Callback that writes every round into a store of its own.

    A subclass says what it writes in `begin`, `log` and `end`. An error in one of them is logged once, and the
    tracker is left out from then on: a run is never lost to its tracker.

    Args:
        folder: the run folder, where a tracker notes which of its runs this is, so that a resumed run goes on in it;
            None notes nothing.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    """The package that it needs, which the extra of the tracker's name installs."""

    def __init__(self, folder: Path | None = None) -> None:
        self.require()
        self.folder = folder
        self._has_failed = False

    @classmethod
    def require(cls) -> None:
        """Raise ``ValueError`` unless the package of the tracker is installed."""
        if find_spec(cls.package) is None:
            raise ValueError(
                f"output.trackers has {cls.name}, which needs {cls.package}, and that is not installed; run: pip "
                f"install 'raysplit[{cls.name}]', or leave it out"
            )

    @abstractmethod
    def begin(self, run: TrackedRun) -> None:
        """Open the store, or go on in the run that `noted` names."""

    @abstractmethod
    def log(self, round: int, numbers: Mapping[str, float]) -> None:
        """Write the metrics of a round, which counts from 1; one that is repeated after a loss comes again."""

    @abstractmethod
    def end(self, how: End) -> None:
        """Close the store."""

    def noted(self) -> dict[str, Any]:
        """Return what the tracker has noted in the run folder; empty for a new run."""
        return dict(self._notes().get(self.name, {}))

    def note(self, content: Mapping[str, Any]) -> None:
        """Note in the run folder which run of the tracker this is."""
        if self.folder is not None:
            with written(self.folder / TRACKED) as aside:
                text = json.dumps(self._notes() | {self.name: dict(content)}, indent=1)
                aside.write_text(text + "\n", encoding="utf-8")

    def _notes(self) -> dict[str, Any]:
        if self.folder is None or not (self.folder / TRACKED).exists():
            return {}
        found = json.loads((self.folder / TRACKED).read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
            raise ValueError(f"{self.folder / TRACKED} does not say which runs of trackers this is; remove it")
        return found

    def run_started(self, experiment: Experiment) -> None:
        name = experiment.run_name or (self.folder.name if self.folder else experiment.algorithm.name)
        settings = dict(flat(dict(experiment.plain)))
        run = TrackedRun(name=name, algorithm=experiment.algorithm.title, settings=settings)
        self._try("begin", lambda: self.begin(run))

    def round_ended(self, row: Row) -> None:
        numbers = {key: float(value) for key, value in row.items() if _is_number(value) and key != "round"}
        self._try(f"round {row['round']}", lambda: self.log(row["round"], numbers))

    def run_ended(self, result: Result) -> None:
        self._try("end", lambda: self.end("finished"))

    def run_failed(self, error: BaseException) -> None:
        self._try("end", lambda: self.end("failed" if isinstance(error, Exception) else "stopped"))

    def _try(self, when: str, work: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            work()
        except Exception as error:
            self._has_failed = True
            logger.warning(
                "the tracker %s failed at %s and gets nothing more; the run goes on: %s: %s",
                self.name,
                when,
                type(error).__name__,
                error,
            )
            logger.debug("traceback", exc_info=True)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
