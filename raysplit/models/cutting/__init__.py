"""The cutting of a model into parts that together compute, bit for bit, what the whole model computes.

* `split`: `trace`, `TracedModel`, `CutPoint` and `merge`, the interface of this package.
* `tracing`: the graph of a model (torch.fx), the same in training and evaluation, and the decorator `leaf`.
* `rewrite`: the removal of in-place writes and of dropout functions from a graph.
* `cut_tensors`, `numbers`: the tensors that cross each position of a graph, and the sizes that are read from them.
* `part_graph`: the graph of one part.
* `graph_state`, `merging`: weights and buffers in graphs, and the state of a whole model from those of its parts.
* `same_model`: the comparison of a graph with the model as written.
* `randomness`: which parts draw random numbers.
* `cut_names`: names of the positions of a graph.
* `dropout`: dropout with masks that do not depend on the cuts.

Users take `trace`, `leaf` and `merge` from `raysplit` itself; other packages also take `dropout_stream` and
`draws_masks` from `dropout`.
"""
