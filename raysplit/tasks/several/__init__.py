"""Several tasks on the same samples, each of a kind of its own.

* ``joint``: `SeveralTasks`, whose loss is the weighted sum of the tasks' mean losses.
"""
