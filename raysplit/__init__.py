"""Split and multi-task training across data owners that keep their data, on Ray."""

__version__ = "0.1.0"
