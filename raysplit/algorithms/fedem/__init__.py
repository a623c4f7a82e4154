"""FedEM: shared learners, mixed by every owner in its own way.

* ``fedem``: `FedEM` and the E-step and M-step of an owner.
* ``mixture``: the model, several learners of one architecture with mixing weights.
"""

from raysplit.algorithms.fedem.fedem import FedEM as FedEM
