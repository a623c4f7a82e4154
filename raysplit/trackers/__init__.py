"""Trackers: callbacks that write a run into TensorBoard, MLflow or Weights & Biases while it goes on.

``output.trackers`` names them; a Python program may also give one as a callback. A tracker that fails is told once and
left out, and the run goes on.
"""

from raysplit.trackers.mlflow import MLflow
from raysplit.trackers.tensorboard import TensorBoard
from raysplit.trackers.tracker import Tracker
from raysplit.trackers.wandb import WandB

TRACKERS: dict[str, type[Tracker]] = {tracker.name: tracker for tracker in (TensorBoard, MLflow, WandB)}
"""The trackers by the name that ``output.trackers`` has for them."""

__all__ = ["TRACKERS", "MLflow", "TensorBoard", "Tracker", "WandB"]
