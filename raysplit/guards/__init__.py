"""Guards: what limits what leaves an owner, with an account of what it promises.

* ``rules``: the ``privacy`` section of a configuration.
* ``mechanisms``: clipping, noise and dropout on rows; ``labels``: flipped labels; ``gradients``: noise on gradients.
* ``smashed``: what stands between an owner's part and the link; `defend` applies it to a batch.
* ``secret``: an owner's secret, and the random streams that are drawn from it.
* ``accounting``: epsilon of several releases; ``ledger``: the file in which an owner keeps what it has released.
* ``guard``: the guard of one owner in a run.
* ``checks``: what is refused before a run starts.
"""
