"""Environments of the libraries that `bench.greeks` measures: pinned, made on demand, kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]

PYTHON: Final = "3.11"
PINNED: Final = {
    "py_vollib_vectorized": (
        "py_vollib_vectorized==0.1.1", "py_vollib==1.0.1", "py_lets_be_rational==1.0.1", "numba==0.58.1",
        "numpy==1.26.4", "pandas==2.1.4", "scipy==1.11.4", "setuptools==75.8.0",
    ),
    "fast_vollib": ("fast-vollib==0.2.4", "numpy==2.4.6", "pandas==3.1.1", "scipy==1.17.1"),
    "QuantLib": ("QuantLib==1.44", "numpy==2.4.6"),
}  # fmt: skip
"""What each needs, at versions that work together: py_vollib_vectorized 0.1.1 fails on later numba."""
ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
INSTALL_SECONDS: Final = 300
RUN_SECONDS: Final = 600


def environment(library: str, *, install: bool) -> Path | None:
    """Python of the library's environment; None where it is not there, or cannot be made here."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ticklake-bench" / library
    python, ready = home / "bin" / "python", home / "ready"
    if ready.exists():
        return python
    uv = shutil.which("uv", path=f"{os.environ.get('PATH', '')}:{Path.home() / '.local' / 'bin'}")
    if not install or uv is None:
        return None
    quiet = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", PYTHON, str(home)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *PINNED[library]],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, env=quiet, timeout=INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
    ready.touch()
    return python


def run(library: str, python: Path, samples: Arrays) -> Arrays:
    """What `rival_run.py` gives for the samples; RuntimeError with the library's last words where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **samples)  # type: ignore[arg-type]
        script = Path(__file__).with_name("rival_run.py")
        done = subprocess.run(
            [python, "-I", script, library, given, result],
            check=False, capture_output=True, text=True, timeout=RUN_SECONDS,
            env={**os.environ, **ONE_THREAD},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{library} failed: {done.stderr.strip().splitlines()[-1:]}")
        return dict(np.load(result))
