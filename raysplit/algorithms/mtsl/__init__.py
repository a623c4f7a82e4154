"""MTSL: one shared top at the server and a bottom at every owner, none of them averaged.

* ``mtsl``: `MTSL` and the owner's round.
* ``own_bottoms``, ``joined_model``: bottoms of other architectures in front of the shared top.
* ``membership``: owners that join and leave during a run.
* ``learning_rates``: learning rates that are given, or follow from measured curvature.
* ``curvature``: the measurement, by power iteration across the cut.
"""

from raysplit.algorithms.mtsl.mtsl import MTSL as MTSL
