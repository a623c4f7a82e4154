"""Partitions: which owner holds which training sample.

* `laws`: `partition` and `partition_test`, which apply a partition by name and check the result.
* `by_label`, `main_label`: partitions that look at labels, such as `dirichlet`, `pathological` and `main_label`.
* `by_size`: partitions that do not, `iid`, `quantity` and `natural_id`.
* `own_tests`: the test samples of each owner.
* `report`: class histograms of a partition, and its Parquet file.
* `stratify`: a stratified split into training and test samples.

Other packages take `partition`, `partition_test`, `partition_names` and `save_partition` from `laws`.
"""
