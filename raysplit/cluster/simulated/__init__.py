"""Virtual time.

`loop` has the event loop of virtual time, `run_virtual`, `VirtualClock` and `Deadlock`; it does not import torch. With
a `LocalCluster` whose machines are emulated it is the reference engine of simulations.
"""
