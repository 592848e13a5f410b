"""Where a lake may be: file systems that lack something, a folder that is moved away, a working folder with traps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.simulator import SimulatorSettings
from collectors.simulator.process import SimulatorProcess, start
from lake.errors import RootError
from lake.locks import exclusive
from lake.root import FOLDERS, MARKER, open_root
from tests.conftest import REPOSITORY
from tests.pipeline.kit import STREAM, assert_sound, expected, finish, held, lake_command

TRADES = """exchange,symbol,timestamp,local_timestamp,id,side,price,amount
deribit,BTC-PERPETUAL,1709251200123000,1709251200124000,9001,buy,60000,10
"""
POLL_S = 0.05
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
static int lacks(const char *what) { const char *all = getenv("LACKS"); return all && strstr(all, what); }
int fsync(int fd) {
  static int (*real)(int); struct stat found;
  if (!real) real = dlsym(RTLD_NEXT, "fsync");
  if (lacks("folder_sync") && !fstat(fd, &found) && S_ISDIR(found.st_mode)) { errno = EINVAL; return -1; }
  return real(fd);
}
int flock(int fd, int how) {
  static int (*real)(int, int);
  if (!real) real = dlsym(RTLD_NEXT, "flock");
  if (lacks("locks")) { errno = ENOLCK; return -1; }
  return real(fd, how);
}
int rename(const char *from, const char *to) {
  static int (*real)(const char *, const char *);
  if (!real) real = dlsym(RTLD_NEXT, "rename");
  if (lacks("renames") && !access(to, F_OK)) { errno = ENOSYS; return -1; }
  return real(from, to);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes system calls fail as some file systems do."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc to imitate file systems with")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "shim.so"


def imported(folder: Path, shim: Path, lacks: str) -> subprocess.CompletedProcess[str]:
    (folder / "trades.csv").write_text(TRADES)
    command = [
        sys.executable,
        "-P",
        "-m",
        "cli",
        "--root",
        str(folder / "lake"),
        "import",
        "--tardis",
        "trades",
    ]
    return subprocess.run(
        [*command, str(folder / "trades.csv")], env=os.environ | {"LD_PRELOAD": str(shim), "LACKS": lacks},
        capture_output=True, text=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip


def test_without_fsync_of_folders_it_works_with_one_warning(tmp_path: Path, shim: Path) -> None:
    done = imported(tmp_path, shim, "folder_sync")
    assert done.returncode == 0, done.stderr
    [line] = done.stderr.splitlines()
    assert "cannot fsync folders (Invalid argument): a power cut may cost the newest files" in line


@pytest.mark.parametrize(
    ("lacks", "told"),
    [
        ("locks", "its file system has no locks (No locks available)"),
        ("renames", "its file system cannot do what"),
    ],
)
def test_what_a_lake_needs_is_tried_before_anything_is_recorded(
    lacks: str, told: str, tmp_path: Path, shim: Path
) -> None:
    done = imported(tmp_path, shim, lacks)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith(f"lake: {tmp_path / 'lake'}")
    assert told in line
    assert not list((tmp_path / "lake" / "tables").iterdir())
    assert not list((tmp_path / "lake" / "spool").iterdir())


def test_a_lake_that_has_vanished_is_not_made_again_by_the_way(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    root.path.rename(tmp_path / "elsewhere")
    with (
        pytest.raises(RootError, match="lake is gone: it was moved, removed or unmounted"),
        exclusive(root.locks / "x.lock", "trying"),
    ):
        pass
    assert not root.path.exists()
    assert {p.name for p in open_root(root.path, create=True).path.iterdir()} == {*FOLDERS, MARKER}


@pytest.fixture(scope="module")
def venue() -> Iterator[SimulatorProcess]:
    with start(SimulatorSettings(instruments=20, rate=800.0)) as process:
        yield process


def test_a_lake_moved_while_it_records_is_whole_where_it_is_and_leaves_nothing_behind(
    tmp_path: Path, venue: SimulatorProcess
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    urls = ("--ws-url", venue.ws_url, "--rest-url", venue.rest_url)
    process = lake_command("--root", str(old), "collect", *urls, LAKE_SPOOL_SEGMENT_BYTES="20000")
    try:
        while len(list((old / "spool" / STREAM).glob("*.seg"))) < 3:
            assert process.poll() is None, finish(process)[1]
            time.sleep(POLL_S)
        old.rename(new)
        code, said = finish(process)
    finally:
        process.kill()
    assert code == 1, said
    assert "Traceback" not in said
    assert not old.exists()
    root = open_root(new)
    process = lake_command("--root", str(new), "collect", *urls, "--for", "1s")
    code, said = finish(process)
    assert code == 0, said
    assert held(root) == expected(root)
    assert_sound(root)


def test_modules_in_the_working_folder_are_not_taken_for_ours(
    tmp_path: Path, venue: SimulatorProcess
) -> None:
    trap = 'raise SystemExit("a module of the working folder ran")\n'
    for name in ("cli", "json", "socket", "signal", "typer", "collectors"):
        (tmp_path / f"{name}.py").write_text(trap)
    for name in ("lake", "pipeline", "quality"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(trap)
    script = Path(sys.executable).with_name("lake")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    for arguments in (
        ("collect", "--ws-url", venue.ws_url, "--rest-url", venue.rest_url, "--for", "2s"),
        ("compact", "--date", "2024-03-01"),
        ("verify",),
    ):
        done = subprocess.run(
            [script, "--root", "data", *arguments], cwd=tmp_path,
            env=environment | {"LAKE_COMPACT_WORKERS": "2", "LAKE_SPOOL_SEGMENT_SECONDS": "0.5"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "working folder ran" not in done.stdout + done.stderr
    root = open_root(tmp_path / "data")
    assert held(root) == expected(root)
