"""Codecs measured on a model and its own data, and the choice among them.

* ``crossing``: what crosses the cuts of a model: smashed data, gradients, differences of weights.
* ``measure``: error, bytes and time of codecs on these values.
* ``choose``: the codec of each link that makes the predicted round shortest within an error budget.
"""
