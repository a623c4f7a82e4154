"""The tasks of a run, one or several on the same samples.

* ``section``: `TaskConfig`, `TargetTask`, and `TaskSettings`, what a configuration says of all of them.
* ``tasks``: the tasks that several targets and these settings make.
"""
