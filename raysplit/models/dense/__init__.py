"""Multi-task models of dense prediction for merge-and-split training: one encoder and one decoder per task.

* `net`: `MultiTaskModel`, `build_mas_model`, and the states of the encoder, of a decoder and of a group of tasks.
* `blocks`: the reduced Xception encoder and its decoder.
* `resnet`: a ResNet-18 encoder and the staged decoder.
* `spec`: `MultiTaskSpec`, a `ModelSpec` with one decoder per task.
* `losses`: the nine Taskonomy tasks with their losses.
* `gradnorm`: GradNorm weights of the tasks, a baseline.

Other packages take these names from their modules.
"""
