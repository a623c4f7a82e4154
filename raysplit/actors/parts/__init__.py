"""The trainable parts of a cut model.

* ``part``: `TrainablePart`, a module with its optimizer; ``stage``: `PartRecipe`, from which one is built anywhere, and
  `Stage`, its asynchronous interface on a device.
* ``joint_step``: one step of a shared part on the batches of many owners.
* ``owner_store``: the parts of thousands of owners in one process.
* ``own_loss``: a check of what a user's own loss returns.
* ``losses``, ``optim``: loss functions and optimizers by name (`LOSSES`, `resolve_loss`, `OptimizerSpec`).
* ``at_cuts``: the evaluated model with the codecs at its cuts.
* ``gradient_record``: the mean of the gradients of a round.
"""
