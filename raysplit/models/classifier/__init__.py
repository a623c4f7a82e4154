"""Multi-task classifiers of MTL-Split: one backbone and one classification head per task.

* `heads`: `MultiTaskClassifier`, its parts `Trunk` and `Heads`, the backbones by name, and `build_classifier`.
* `fan_out`: the features once per head, with gradients in the order of the heads.
* `build`: `multi_task`, the classifier as a model that a configuration can name.
* `spec`: `ClassifierSpec`, a `ModelSpec` that is cut at the backbone and between heads.
* `losses`: the loss of each task and their sum.
* `export`: the folder from which a classifier is served.

Other packages take these names from their modules.
"""
