"""One HTML page about runs: it holds its pictures and its style, loads nothing and runs nothing."""
