"""Guards: what limits what leaves an owner, with an account of what it promises.

* ``rules``: the ``privacy`` section of a configuration.
* ``noise``: what changes values; `raysplit.guards.noise.smashed.defend` applies the guards to a batch.
* ``secret``: an owner's secret, and the random streams that are drawn from it.
* ``account``: epsilon of several releases, and the ledger of an owner.
* ``guard``: the guard of one owner in a run; ``costs``: what a round of it costs.
* ``alarm``: whether the gradients that an owner gets depend on its labels.
* ``checks``: what is refused before a run starts.
"""
