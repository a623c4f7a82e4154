"""Samples whose lengths differ, such as sentences, and the batches that they are padded to.

* `ragged`: `Ragged`, where each sample begins in one flat tensor, and what shorter ones are filled up with.
* `padding`: `Padding`, the length of batches by the settings, and data sets in that form.
* `tokens`: checks of tokens, and the token that follows each.
* `masks`: the mask of what is no padding, and checks of masks that data bring along.
"""
