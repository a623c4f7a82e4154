"""MTL-Split: one backbone at the data owner, and the heads of several tasks on compute nodes.

* ``mtl_split``: `MTLSplit` and the owner's rounds.
* ``heads_node``: a compute node that holds heads.
"""

from raysplit.algorithms.mtl_split.mtl_split import MTLSplit as MTLSplit
