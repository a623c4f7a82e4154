"""Split inference: the backbone on an edge device, the task heads behind HTTP, and what that costs (MTL-Split)."""
