"""Readers of files, arrays and published data sets.

* `arrays`: checks of raw arrays and map-style sets, and the `Samples` and `DataSet` made of them.
* `files`: `load_file`, a user's arrays in ``.npz`` or Parquet.
* `shards`: `open_shards`, one Parquet file per owner, read a few row groups at a time.
* `torchvision_sets`: `load_torchvision`, any image-classification set of torchvision.
* `dsprites`: `load_dsprites`, dSprites with up to five tasks.
* `image_table`: `load_image_table`, a folder of pictures with a table of labels.
* `taskonomy`: `load_taskonomy`, the folders of Taskonomy.
* `task_set`: `TaskSet`, pictures with one class label per task.
* `pooled`: one `DataSet` made of the samples of several owners.

`raysplit.data.datasets.load_dataset` has the loaders by name. Other packages take `open_shards` and `STREAMED` from
`shards` and the checks of `arrays`.
"""
