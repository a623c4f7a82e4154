"""Labels that an owner keeps, from the gradients that it sends.

* ``directions``: rows of gradients in clusters, or beside rows with a known label.
* ``weights``: rows of gradients behind which the tail is known, or another one like it.
* ``completion``: a classifier of smashed data from few labels, which uses no gradient: the control.
* ``counts``: how many samples of each class a gradient of a whole model is of.
"""
