"""The measurement of a run: attacks on its own weights and data, by observers that see what the links carried.

* ``cheap``: measures without an attacker; ``inversions``, ``guessing``, ``whole_model``: attacks with what they know.
* ``trials``: the attacks that fit a run, and why others do not.
* ``outcome``: what an attack has got; ``kept`` and ``page``: the files of a measurement.
* ``run``: all attacks on a run; ``planned``: the cheap measures of every cut of a model before training.
"""
