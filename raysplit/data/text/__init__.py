"""Text as tokens: files, or the help topics that every Python has, in windows for language models.

* `documents`: `documents_of`, the files or topics that a name stands for.
* `encoding`: `encoder`, which turns a document into tokens: bytes, characters, or those of a tokenizer file.
* `windows`: `load_text`, the data set of a text.
"""
