"""What an observer sees of an owner.

* ``views``: the cuts of its model, and who is on the other side of each.
* ``rows``: the samples of the owner and of the attacker.
* ``subject``: the model before and behind a cut, with its weights.
* ``defended``: what values go through before they leave.
* ``replay``: the messages of a round, computed again.
"""
