"""Data whose inputs and targets have names of their own.

* `arrays`: `data_set_from_named`, the arrays of an ``.npz`` or Parquet file.
* `rows`: `data_set_of_rows`, data sets of the library datasets of Hugging Face, whose columns have names and types.
"""
