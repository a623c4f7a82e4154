"""The compiled engine of simulations: the coroutines of a few owners are recorded, and replayed for all of them.

* ``recording``, ``recorded_parties``, ``record``: an event loop, parties and machines that note what coroutines do,
  and which owners are alike, so that two of them stand for the others.
* ``templates``, ``assemble``, ``program``: from recorded tasks to a program for all owners.
* ``state``, ``queues``, ``engine``: the memory and the compiled loop that runs the program. They alone load numba.
* ``replay``, ``found``: all together, and the events and the traffic that come of it.

Others take `replay` and `cohorts_of`.
"""
