"""Attacks: what an observer can compute from the values that it sees, one file an attack.

An attack is a pure function of tensors. It gets what its observer saw and what its attacker knows, and returns
reconstructions or labels; how good they are is measured elsewhere, and no attack sees that before it ends.

* ``pace``: the time box of an attack; ``networks``: decoders and critics, and how attackers build them.
* ``images``: reconstructions of samples from smashed data or from gradients.
* ``labels``: labels from gradients at the cut before an owner's last part, or from gradients of a whole model.
* ``membership``: whether a sample was trained on.

What attackers know of the model: K0 the messages alone, K1 the architecture too, K2 also the initial weights (all
parties draw them from the public seed), K3 the owner's present weights. Of data: D0 none, D1 of another domain, D2 of
the same law without labels, D3 with labels, D4 some of the owner's own.
"""
