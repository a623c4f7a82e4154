"""Callbacks of a run, for progress, copies and loggers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from raysplit.experiment.experiment import Experiment
    from raysplit.runs.folder import Row
    from raysplit.runs.result import Result

logger = logging.getLogger(__name__)

Stage = Literal["load", "check", "connect", "deploy", "train", "evaluate", "write"]
"""What a run is doing: loading the data, checking that the parts fit, starting or joining Ray, starting the parties,
training, evaluating, and writing checkpoints and the run folder."""


class Callback:
    """Base class of callbacks; override the methods for the events that you need.

    All methods run in the coordinator's process, between rounds and one after the other, so the run waits for them. An
    exception ends the run, or is logged and ignored, as ``reliability.on_callback_error`` says.

    Example:
        >>> class Best(raysplit.Callback):
        ...     def evaluated(self, row):
        ...         print(f"round {row['round']}: {row['test_accuracy']:.1%}")
        >>> training = {"rounds": 2, "max_steps": 2}
        >>> result = raysplit.train(model="mlp", training=training, cluster="local", callbacks=[Best()])
        round 1: ...%
        round 2: ...%
    """

    def stage_began(self, stage: Stage) -> None:
        """Called when the run begins to do something else, from loading the data to writing the result."""

    def run_started(self, experiment: Experiment) -> None:
        """Called when all parties are deployed, before the first round."""

    def round_ended(self, row: Row) -> None:
        """Called after every round with its row of metrics; ``row["round"]`` counts from 1."""

    def evaluated(self, row: Row) -> None:
        """Called after a round with an evaluation; ``row`` has ``test_loss`` and, for labels, ``test_accuracy``."""

    def checkpoint_kept(self, rounds: int, location: str) -> None:
        """Called when a checkpoint of the first ``rounds`` rounds is in ``location``, a folder or a URI."""

    def run_ended(self, result: Result) -> None:
        """Called when the run has finished and its folder is complete; not called after an error."""

    def run_failed(self, error: BaseException) -> None:
        """Called when ``error`` ends the run, before it is raised; the folder has the rounds up to then."""


class Callbacks(Callback):
    """Callback that calls all callbacks of a run in order.

    Args:
        callbacks: the callbacks.
        on_error: ``stop`` raises an error of a callback, ``continue`` ignores it; both log it with the callback's name.
    """

    def __init__(self, callbacks: Sequence[Callback], on_error: Literal["stop", "continue"] = "stop") -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                hint = f"; make one: {callback.__qualname__}()" if isinstance(callback, type) else ""
                raise ValueError(
                    f"callbacks must be objects of subclasses of raysplit.Callback, got {callback!r:.100}{hint}"
                )
        self._callbacks = tuple(callbacks)
        self._on_error = on_error

    def stage_began(self, stage: Stage) -> None:
        self._tell("stage_began", stage)

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
        for callback in self._callbacks:  # the error of the run is raised, not that of a callback
            try:
                callback.run_failed(error)
            except (Exception, SystemExit):
                logger.exception("%s.run_failed failed", _name(callback))

    def _tell(self, event: str, *what: object) -> None:
        for callback in self._callbacks:
            try:
                getattr(callback, event)(*what)
            except (Exception, SystemExit) as error:
                logger.error("%s.%s failed: %s: %s", _name(callback), event, type(error).__name__, error)
                if self._on_error == "stop":
                    error.add_note(
                        f"in {_name(callback)}.{event}; set reliability.on_callback_error to continue to ignore it"
                    )
                    raise
                logger.debug("traceback", exc_info=True)


def _name(callback: Callback) -> str:
    return type(callback).__qualname__
