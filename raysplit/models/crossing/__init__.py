"""What crosses each place of a model.

* `places`: every place in words: its tensors and bytes, the weights before and after it, and why it may be none.
* `raw_inputs`: the values that hold inputs as they are.
"""
