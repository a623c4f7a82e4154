"""Commands that read runs: `runs` (``raysplit list``), `show`, `compare`, `report` and `export`."""
