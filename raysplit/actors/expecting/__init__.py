"""What owners and compute nodes expect of values that others send them.

* ``forms``: the forms of what crosses a cut and of weights, from the specification of the model.
* ``parties``: `ExpectsAtOwner` and `ExpectsAtNode`, which say it to the link.
"""
