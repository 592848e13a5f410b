"""Settings: default < file < environment < flag, and every slip is refused with the cure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cli import sections
from lake.errors import SettingsError
from lake.settings import field_docs, read_sources


@dataclass(frozen=True)
class Sample:
    """A section."""

    interval_ms: int = 50
    """How often,
    in ms."""
    ratio: float = 0.5
    """Share."""
    names: tuple[str, ...] = ()
    """Which."""
    eager: bool = False
    """Whether."""
    folder: Path | None = None
    """Where."""

    def __post_init__(self) -> None:
        if self.interval_ms <= 0:
            raise ValueError("interval_ms must be positive")


SECTIONS = {"sample": Sample}


def write(folder: Path, text: str) -> Path:
    path = folder / "lake.toml"
    path.write_text(text)
    return path


def test_each_source_overrides_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, '[sample]\ninterval_ms = 1\nratio = 2\nnames = ["a", "b"]\nfolder = "~/x"\n')
    monkeypatch.setenv("LAKE_SAMPLE_INTERVAL_MS", "2")
    monkeypatch.setenv("LAKE_SAMPLE_EAGER", "yes")
    sources = read_sources(file, SECTIONS)
    found = sources.section("sample", Sample, {"interval_ms": 3, "ratio": None})
    assert found == Sample(3, 2.0, ("a", "b"), eager=True, folder=tmp_path / "x")
    assert sources.section("sample", Sample).interval_ms == 2


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            "[sample]\ninterval = 1",
            r"\[sample\] interval in .*lake\.toml is no setting; did you mean interval_ms\?",
        ),
        ("[simple]\n", r"section \[simple\] is unknown; did you mean sample\?"),
        ("sample = 3", r"write settings in a section, such as \[sample\]"),
        ("[sample]\ninterval_ms = 1.5", "must be a whole number, not 1.5"),
        ("[sample]\ninterval_ms = true", "must be a whole number, not True"),
        ("[sample]\nnames = [1]", "must be a list of strings"),
        ("[sample]\ninterval_ms = 0", r"\[sample\] interval_ms must be positive"),
        ("[sample", "is not TOML"),
    ],
)
def test_slips_in_the_file_are_refused_with_the_cure(tmp_path: Path, text: str, advice: str) -> None:
    with pytest.raises(SettingsError, match=advice):
        read_sources(write(tmp_path, text), SECTIONS).section("sample", Sample)


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        (
            "LAKE_SAMPLE_INTERVAL",
            "1",
            "LAKE_SAMPLE_INTERVAL is no setting; did you mean LAKE_SAMPLE_INTERVAL_MS",
        ),
        ("LAKE_SAMPLE_INTERVAL_MS", "fast", "LAKE_SAMPLE_INTERVAL_MS must be a whole number, not 'fast'"),
        ("LAKE_SAMPLE_EAGER", "maybe", "must be true or false, not 'maybe'"),
    ],
)
def test_slips_in_the_environment_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, advice: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=advice):
        read_sources(None, SECTIONS).section("sample", Sample)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml does not exist"):
        read_sources(tmp_path / "gone.toml", SECTIONS)


def test_every_setting_has_a_docstring_and_a_default() -> None:
    for name, cls in sections().items():
        cls()
        undocumented = [field for field, doc in field_docs(cls).items() if not doc]
        assert not undocumented, f"[{name}] {undocumented}"
    assert field_docs(Sample)["interval_ms"] == "How often, in ms."
