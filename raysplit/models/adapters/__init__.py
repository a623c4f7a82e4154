"""What of a model is trained: frozen weights, base weights from a file, and low-rank adapters.

* ``tuning``: `Tuning`, which weights are trained, and how a model is changed for it.
* ``lora``: low-rank adapters of linear layers.
* ``weights``: base weights from a file, and the digest of what is not trained.
* ``gap``: what averaging two factors loses of the average of their products.
* ``export``: adapters in peft's layout, and merged into the base.
"""
