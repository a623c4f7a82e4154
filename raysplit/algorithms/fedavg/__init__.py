"""Methods that keep the whole model at the owner.

* ``fedavg``: `FedAvg`, `FedProx` and their owner's rounds (`local_epochs`, `train_and_submit`).
* ``fednova``: `FedNova`, for owners that take different numbers of steps.
* ``references``: `Centralised` (all data in one place) and `LocalOnly` (no communication).
* ``open_round``, ``open_aggregator``: rounds of FedAvg that end before all owners have finished.
"""

from raysplit.algorithms.fedavg.fedavg import FedAvg as FedAvg
from raysplit.algorithms.fedavg.fedavg import FedProx as FedProx
from raysplit.algorithms.fedavg.fedavg import local_epochs as local_epochs
from raysplit.algorithms.fedavg.fedavg import train_and_submit as train_and_submit
from raysplit.algorithms.fedavg.fednova import FedNova as FedNova
from raysplit.algorithms.fedavg.references import Centralised as Centralised
from raysplit.algorithms.fedavg.references import LocalOnly as LocalOnly
