"""FedAvg, FedProx, the references beside them, and rounds that end without waiting for everybody."""

from raysplit.algorithms.fedavg.fedavg import FedAvg as FedAvg
from raysplit.algorithms.fedavg.fedavg import FedProx as FedProx
from raysplit.algorithms.fedavg.fedavg import local_epochs as local_epochs
from raysplit.algorithms.fedavg.fedavg import train_and_submit as train_and_submit
from raysplit.algorithms.fedavg.references import Centralised as Centralised
from raysplit.algorithms.fedavg.references import LocalOnly as LocalOnly
