"""Measurements: each script prints its figure with the target of the design beside it."""
