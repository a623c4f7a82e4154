"""Templates of small projects, which ``raysplit new`` writes: configuration, data, model, test and a README each."""
