"""The networks of this package: small and deep ones for pictures, sequences and tables, and a U-Net.

* `small_nets`, `deep_nets`: perceptrons, small CNNs and ResNets for pictures and vectors.
* `sequence_nets`: convolutions, an LSTM and a transformer over sequences.
* `unet`: a U-Net whose skips cross the cut.

`raysplit.models.zoo` has them by name.
"""
