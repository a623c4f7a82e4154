"""What an owner's guard needs of the owner: rounds that it hears of, and parts that train under it.

* ``owner``: the half of a `DataOwner` that has a guard.
* ``part``: a part whose steps have clipped gradients of single samples and noise, or whose loss has a further term.
* ``correlation``: that term, the distance correlation of inputs and smashed data.
"""
