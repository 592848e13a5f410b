"""Every benchmark, one after the other, each in a process of its own: `python -m bench [--long]`.

Short forms together take about seven minutes; `--long` gives each its longer form.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

BENCHMARKS: Final = (
    "socket_to_table", "durability", "receive", "spool", "decode", "sampled", "at_rest", "compaction", "query", "depth",
    "many_commits", "history", "greeks", "greeks_job", "surface", "full_load", "soak", "chaos",
    "backfill", "verify",
)  # fmt: skip


def machine() -> str:
    """What the figures were measured on."""
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else platform.machine()
    return f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> int:
    """Command line: the exit code is that of the first benchmark that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="the longer form of each")
    options = parser.parse_args()
    sys.stdout.write(f"{machine()}\n")
    sys.stdout.flush()
    worst = 0
    for name in BENCHMARKS:
        command = [sys.executable, "-m", f"bench.{name}", *(["--long"] if options.long else [])]
        worst = worst or subprocess.run(command, check=False).returncode
    return worst


if __name__ == "__main__":
    sys.exit(main())
