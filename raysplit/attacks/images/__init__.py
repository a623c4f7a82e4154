"""Reconstructions of samples, pictures or other rows in the unit range.

* ``inverse``: a decoder that is trained on samples of one's own.
* ``affine``: ridge regression, the baseline to beat.
* ``unsplit``: samples and weights are searched together, without any data.
* ``sdar``: a copy of the owner's part that learns from the server's, and a decoder of it.
* ``gradient``: samples whose gradient is the one that was seen.
"""
