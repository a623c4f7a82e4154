"""What parties expect of values that arrive from others, and the check of each.

* ``forms``: the form of a value (`Form`, `Expected`); ``errors``: `BadValue`, `NonFiniteValue`, `NonFiniteLoss`.
* ``verbs``: what each verb carries.
* ``contents``: what is checked of each content: smashed data, gradients, labels, weights; ``records``: of numbers,
  reports, evaluations and states; ``words``: their words in messages.
* ``check``: the check that the link makes of every value.

Parties and algorithms take ``forms`` and ``errors`` alone.
"""
