"""Models by name, the specification from which every party builds them, and the cutting of models into parts.

* `spec`: `ModelSpec`, the small value that parties exchange instead of weights.
* `zoo`: `build_model` and `model_names`, models by name or import path.
* `nets`: the networks of this package, most of them as chains of the units at which they are cut.
* `given_model`: a model that a Python program passes as an object.
* `profiler`: `measure_profile`, the cost of each unit of a model on this machine.
* `optimizer_step`: an optimizer step without the bookkeeping of torch around it.
* `split`: the former path of `cutting.split`, kept for one release.
* `cutting/`: the tracing of a model and its division into parts.
* `classifier/`: multi-task classifiers, one backbone and a head per task.
* `dense/`: multi-task models of dense prediction, one encoder and a decoder per task.

Other packages take `ModelSpec` from `spec`, `build_model` and `model_names` from `zoo`, and `measure_profile` from
`profiler`; users take `trace`, `leaf` and `merge` from `raysplit` itself. Nothing is exported here, since all of these
modules load torch.
"""
