"""Data that every owner opens by itself at its own place, and what the coordinator is told of them.

`OwnSource` says where an owner's data lie, `Outline` is all that leaves the owner's place before training,
`agreed` compares the outlines of all owners, and `SealedSamples` stand for samples that only their owner can read.
"""
