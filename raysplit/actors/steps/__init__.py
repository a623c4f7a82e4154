"""The steps of the optimizers beyond one batch and one update: what they apply, and how parts agree on it.

* ``rules``: `StepRules`, the settings of a part's steps, and `ClipRules`.
* ``clip``: norms of gradients, and the coefficient by which they are clipped, in bits that of an uncut model.
* ``exchange``: the verbs with which the parts of one model exchange their norms.
* ``passes``: forward passes in bfloat16, and such that are computed again in the backward pass.
* ``micro``: micro-batches whose gradients make one step.
"""
