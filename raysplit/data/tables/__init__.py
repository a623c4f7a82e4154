"""Tables, one row per sample, with columns of numbers and of categories.

* `columns`: what each column is, and the columns of a file as numbers and codes.
* `statistics`: what owners say of their columns, and how it is merged.
* `encoder`: `Code`, which turns columns into inputs of a model.
* `targets`: the targets of the rows.
* `table`: `load_table`, the data set of a CSV or Parquet file.
"""
