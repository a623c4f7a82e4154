"""The cluster in virtual time.

* ``cluster``: `SimulatedCluster`, a `LocalCluster` for millions of calls.
* ``loop``: the event loop of virtual time, `run_virtual` and `VirtualClock`; it does not import torch.
* ``tasks``: the tasks and futures of that loop.

Others take `SimulatedCluster`, `run_virtual`, `VirtualClock` and `Deadlock`.
"""
