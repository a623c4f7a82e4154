"""Commands that read runs: `runs` (``raysplit list``), `show`, `inspect`, `compare`, `report` and `export`.

`torch_program` exports a trained model as a program that needs only torch.
"""
