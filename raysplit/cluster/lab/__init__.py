"""A lab: a Ray cluster of several described machines on this machine.

* ``machines``: `Lab`, read from a file by `read_lab`, and the arguments of each machine's ``ray start``.
* ``processes``: `start`, `stop` and `find` for the processes of a lab; `LabError`.
"""
