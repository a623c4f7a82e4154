"""Readers of files, arrays and published data sets.

* `arrays`: the `DataSet` made of raw arrays or of two sides.
* `map_style`: `side_of`, `Samples`, pairs of arrays or map-style sets as one side of a data set.
* `pictures`: picture files of 8 and 16 bits, and folders of them.
* `folder`: `load_folder`, pictures by side and class.
* `files`: `load_file`, a user's arrays in ``.npz`` or Parquet.
* `shards`: `open_shards`, one Parquet file per owner, read a few row groups at a time.
* `torchvision_sets`: `load_torchvision`, any image-classification set of torchvision.
* `dsprites`: `load_dsprites`, dSprites with up to five tasks.
* `image_table`: `load_image_table`, a folder of pictures with a table of labels.
* `taskonomy`: `load_taskonomy`, the folders of Taskonomy.
* `task_set`: `TaskSet`, pictures with one class label per task.

`raysplit.data.datasets.load_dataset` has the loaders by name. Other packages take `open_shards` and `STREAMED` from
`shards`, and the functions of `arrays`, `map_style` and `pictures`.
"""
