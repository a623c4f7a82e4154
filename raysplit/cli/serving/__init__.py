"""Commands for split inference: `serve` runs the heads on a server, and `edge` runs the backbone and asks it."""
