"""MAS and its baselines: dense tasks that are trained in groups, one model for each group.

* ``mas``: `MAS` itself; ``baselines``: `AllInOne`, `OneByOne`, `TAG`, `HOA`.
* ``mas_options``: its options.
* ``groups``, ``live_groups``: their base class, with groups that are opened and closed during a run; ``phase``: the
  records of a group and of a phase.
* ``owner``, ``aggregator``: the parties of groups; ``task_owners``: who has which tasks.
* ``measuring``, ``affinity``: affinities between tasks, per round and per batch.
* ``costs``: the account of time and energy.
"""

from raysplit.algorithms.mas.baselines import HOA as HOA
from raysplit.algorithms.mas.baselines import TAG as TAG
from raysplit.algorithms.mas.baselines import AllInOne as AllInOne
from raysplit.algorithms.mas.baselines import OneByOne as OneByOne
from raysplit.algorithms.mas.mas import MAS as MAS
