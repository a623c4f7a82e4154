"""Predictions beside measurements: how far they are off, and what messages cost on this machine."""
