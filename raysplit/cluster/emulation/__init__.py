"""Described machines and networks, which pace a real run or drive a simulation.

* ``machines``: `Machine` and `Emulation`, and devices that take the described time.
* ``network``: `Interface` and `Network`, whose transfers take the described time.
* ``events``: `EventLog`, with the events and the delays of a run.

`Machine`, `Emulation`, `Interface` and `EventLog` are exported here.
"""

from raysplit.cluster.emulation.events import EventLog as EventLog
from raysplit.cluster.emulation.machines import Emulation as Emulation
from raysplit.cluster.emulation.machines import Machine as Machine
from raysplit.cluster.emulation.network import Interface as Interface
