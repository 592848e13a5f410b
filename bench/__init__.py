"""Measurements: each script prints its figure with the target of the design beside it."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the `lake` command does
