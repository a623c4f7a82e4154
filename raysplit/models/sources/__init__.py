"""Models of other libraries, by the word in front of the colon of ``model.name``.

* `torchvision_models`: ``torchvision:NAME``.
* `timm_models`: ``timm:NAME``, with the extra ``timm``.
* `hugging_face`: ``hf:CLASS`` and ``hf:FOLDER``, with the extra ``hf``.
* `outputs`: one tensor in the place of a library's record of outputs.

Each has ``require()``, which raises ``ValueError`` where the library is not installed, and ``build``.
"""
