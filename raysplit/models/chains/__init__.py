"""Models that say their own units, for those that neither torch.fx nor torch.export can follow.

* `chain`: the graph of such a model, with a node for each unit.
* `step`: the module that computes a unit.
"""
