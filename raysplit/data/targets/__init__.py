"""Targets of samples: class labels, or what other tasks have.

* ``arrays``: targets of raw arrays, by the task or by their type and shape, and the number of outputs that they need.
* ``of_samples``: the targets of an owner, checked by the task, and the statistic of them that its baseline needs.
"""
