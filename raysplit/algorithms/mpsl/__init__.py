"""MP-SL: both ends of the model at the owner, the middle on a chain of compute nodes.

* ``mpsl``: `MPSL` and the owner's rounds.
* ``migration``: conditions for moving parts between nodes, and the whole state that is cut again.
"""

from raysplit.algorithms.mpsl.mpsl import MPSL as MPSL
