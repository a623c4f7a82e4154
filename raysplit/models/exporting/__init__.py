"""The cutting of models that torch.fx cannot trace, by `torch.export`.

* `graphs`: the graphs of a model for training and for evaluation.
* `clean`: an exported program as a plain graph.
* `writes`: writes in place, which become new tensors.
* `random_draws`, `keyed`: random operators with streams of their own.
* `facts`: shapes and sizes as torch.export knows them.
* `part`: a part of a model with both graphs.
"""
