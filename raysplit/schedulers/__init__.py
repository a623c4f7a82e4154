"""Decisions as pure functions of plain records: no I/O, no clock, no torch and no Ray.

* ``cohort``: the owners of a round, and when it may end without some (`choose_cohort`, `CohortRules`, `Gathering`).
* ``failure``: what follows from a lost place or a refused update (`FailureRules`, `decide`).
* ``elastic``: when a round of an elastic run may begin (`MembershipRules`, `decide`, `members_after`).
* ``queue``: the order of a compute node's waiting tasks (`queue_policy`).
* ``learning_rate``: schedules by name (`SCHEDULES`); ``curvature_rates``: rates from curvature (`block_rates`).
* ``energy``: time and energy of training groups of tasks (`TaskCost`, `Charge`).
* ``rules``: `Rules`, the base class of settings that decisions read.
* ``cuts``: where to cut a model, and which node runs which part.
* ``grouping``: which tasks to train together, and when to split them.

Nothing is exported here, so that importing one decision does not load the solvers of the others.
"""
