"""Data sets, the type and shape of model inputs, and the division of samples among data owners.

* `samples`: `Samples`, inputs and labels in memory, and `DataSet`, training and test samples with their transforms.
* `inputs`: `Input`, the type and shape of one model input, and functions on batches of one or several inputs.
* `reading`: `Reading`, what arrays are (pixels, numbers, ids; channels first or last), and their conversion to inputs.
* `labels`: class labels, checked and numbered, and the mark of a missing one.
* `record`: `data_record`, what a data set holds and what is done with it.
* `failures`: errors of libraries and of users' own functions as one message.
* `transforms`: transforms of whole batches, such as `ToUnit`, `Normalise` and `RandomCrop`.
* `noise`: salt-and-pepper noise as a transform.
* `domains`: transforms and label noise that make the data of one owner differ from those of another.
* `datasets`: `load_dataset`, which loads a data set by name.
* `bare_memory`: tensors as memory, in which samples travel.
* `sequences/`: samples of different lengths, their padding and their masks.
* `text/`: text as windows of tokens.
* `tables/`: rows of numbers and categories, and what owners say of them.
* `named/`: data whose inputs have names of their own, and data sets of Hugging Face.
* `sources/`: readers of files, arrays and published data sets.
* `rendered/`: data sets that are drawn instead of downloaded.
* `partition/`: rules that decide which owner holds which sample.

Other packages take `Samples` and `DataSet` from `samples` (users from `raysplit` itself), `load_dataset` and
`dataset_names` from `datasets`, `partition` from `partition.laws`, `domain` and `flip_labels` from `domains`, and the
functions of `inputs` and `transforms`. Nothing is exported here, since most of these modules load torch.
"""
