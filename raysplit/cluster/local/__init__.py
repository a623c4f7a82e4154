"""The cluster in one process, on one event loop.

* ``cluster``: `LocalCluster`, which is exported here.
* ``eager``: calls that run in the coroutine that awaits them.
* ``calls``: calls that are tasks, for emulated runs and for the parties of a Ray place.
"""

from raysplit.cluster.local.cluster import LocalCluster as LocalCluster
