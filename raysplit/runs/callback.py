"""What happens in a run, told to whoever wants to know: progress on a terminal, copies elsewhere, one's own logger."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from raysplit.experiment.experiment import Experiment
    from raysplit.runs.folder import Row
    from raysplit.runs.result import Result

logger = logging.getLogger(__name__)


class Callback:
    """Is called when something has happened in a run; override what you want to know.

    All methods run in the coordinator's process, between two rounds and one after the other, so the run waits for
    them. What a method raises ends the run, or is logged and passed over, as ``reliability.on_callback_error`` says.

    Example:
        >>> class Best(raysplit.Callback):
        ...     def evaluated(self, row):
        ...         print(f"round {row['round']}: {row['test_accuracy']:.1%}")
        >>> raysplit.train(data="digits", callbacks=[Best()])
    """

    def run_started(self, experiment: Experiment) -> None:
        """All parties are deployed; the first round follows."""

    def round_ended(self, row: Row) -> None:
        """A round is done and recorded: its line of the metrics (``round`` is counted from 1)."""

    def evaluated(self, row: Row) -> None:
        """A round ended with an evaluation: the same line, with ``test_loss`` and, for labels, ``test_accuracy``."""

    def checkpoint_kept(self, rounds: int, location: str) -> None:
        """A checkpoint of the first ``rounds`` rounds has been written below ``location``, a folder or a URI."""

    def run_ended(self, result: Result) -> None:
        """The run went to its end, and its folder is complete. Not called for a run that an error ended."""

    def run_failed(self, error: BaseException) -> None:
        """The run ended with this error, which is raised afterwards; what it has reached is in its folder."""


class Callbacks(Callback):
    """All callbacks of a run as one, in their order.

    Args:
        on_error: ``stop`` lets an error of a callback end the run, ``continue`` goes on. The log names the callback.
    """

    def __init__(self, callbacks: Sequence[Callback], on_error: Literal["stop", "continue"] = "stop") -> None:
        self._callbacks = tuple(callbacks)
        self._on_error = on_error

    def run_started(self, experiment: Experiment) -> None:
        self._tell("run_started", experiment)

    def round_ended(self, row: Row) -> None:
        self._tell("round_ended", row)

    def evaluated(self, row: Row) -> None:
        self._tell("evaluated", row)

    def checkpoint_kept(self, rounds: int, location: str) -> None:
        self._tell("checkpoint_kept", rounds, location)

    def run_ended(self, result: Result) -> None:
        self._tell("run_ended", result)

    def run_failed(self, error: BaseException) -> None:
        for callback in self._callbacks:  # the run's own error is what is raised
            try:
                callback.run_failed(error)
            except Exception:
                logger.exception("%s.run_failed failed", _name(callback))

    def _tell(self, event: str, *what: object) -> None:
        for callback in self._callbacks:
            try:
                getattr(callback, event)(*what)
            except Exception as error:
                logger.error("%s.%s failed: %s: %s", _name(callback), event, type(error).__name__, error)
                if self._on_error == "stop":
                    error.add_note(
                        f"in {_name(callback)}.{event}; reliability.on_callback_error: continue goes on without it"
                    )
                    raise
                logger.debug("traceback", exc_info=True)


def _name(callback: Callback) -> str:
    return type(callback).__qualname__
