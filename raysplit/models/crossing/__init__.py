"""What crosses each place of a model.

* `places`: every place in words: its tensors and bytes, the weights before and after it, and why it may be none.
* `measured_run`: what a forward pass shows of the values that cross.
* `tied`: weights that are at both ends of a model.
* `raw_inputs`: the values that hold inputs as they are.
"""
