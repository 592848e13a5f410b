"""Settings: default < file < environment < flag, and every slip is refused with the cure."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli import sections
from lake.errors import SettingsError
from lake.settings import field_docs, leaves, read_sources, variable_name


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


@dataclass(frozen=True)
class Numbers:
    """A section."""

    wait_seconds: float = 1.0
    pause_ms: int = 1
    grace_hours: float = 1.0
    old_days: float = 1.0
    share: float = 0.5
    count: int = 1
    count_max: int | None = None


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("key", ["wait_seconds", "grace_hours", "share"])
def test_what_is_no_finite_number_is_refused(key: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"LAKE_NUMBERS_{key.upper()}"
    with monkeypatch.context() as within:
        within.setenv(variable, value)
        with pytest.raises(SettingsError, match=f"{variable} must be a finite number"):
            read_sources(None, {"numbers": Numbers}).section("numbers", Numbers)
    with pytest.raises(SettingsError, match=rf"\[numbers\] {key} must be a finite number"):
        read_sources(None, {"numbers": Numbers}).section("numbers", Numbers, {key: float(value)})


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("wait_seconds = nan", "a finite number, not nan"),
        ("wait_seconds = 3.2e9", "less than a century, not 3.2e"),
        ("pause_ms = 3_200_000_000_000", "less than a century"),
        ("grace_hours = 1e12", "less than a century"),
        ("old_days = -40000", "less than a century"),
        ("share = 1e300", "below 2\\^53, not 1e"),
        ("count = 9_007_199_254_740_992", "below 2\\^53"),
        ("count_max = -9_007_199_254_740_992", "below 2\\^53"),
        ("count = 1" + 400 * "0", "below 2\\^53, not a number of more than 300 digits"),
    ],
)
def test_numbers_beyond_reason_are_refused(tmp_path: Path, text: str, advice: str) -> None:
    file = write(tmp_path, f"[numbers]\n{text}\n")
    with pytest.raises(SettingsError, match=rf"\[numbers\] {text.split()[0]} in .* must be {advice}"):
        read_sources(file, {"numbers": Numbers}).section("numbers", Numbers)
    usual = read_sources(
        write(tmp_path, "[numbers]\nold_days = 36000\ncount = 9_007_199_254_740_991\n"), {"numbers": Numbers}
    )
    assert usual.section("numbers", Numbers).count == 2**53 - 1


def test_a_foreign_variable_is_passed_over_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable in ("LAKE_HOUSE", "LAKE_SAMPEL_RATIO", "LAKE_REAL_DATA", "LAKE_ROOT", "LAKE_CONFIG"):
        monkeypatch.setenv(variable, "1")
    read_sources(None, SECTIONS)
    assert [record.getMessage() for record in caplog.records] == [
        "environment variable LAKE_HOUSE is no setting and has no effect",
        "environment variable LAKE_SAMPEL_RATIO is no setting and has no effect; did you mean LAKE_SAMPLE_RATIO?",
    ]


def test_the_old_name_of_a_setting_is_refused_with_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, '[collect.link]\nssl_context = "/etc/ca.pem"\n')
    with pytest.raises(SettingsError, match=r"\[collect\.link\] ssl_context in .* is now called ca_file"):
        read_sources(file, sections()).section("collect", sections()["collect"])
    monkeypatch.setenv("LAKE_COLLECT_LINK_SSL_CONTEXT", "/etc/ca.pem")
    with pytest.raises(SettingsError, match="SSL_CONTEXT is now called LAKE_COLLECT_LINK_CA_FILE"):
        read_sources(None, sections())


@pytest.mark.parametrize("where", ["file", "environment"])
def test_every_setting_can_be_given_as_text(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its default, or a value of its kind, comes back from the file and from the environment."""
    certificates = ssl.get_default_verify_paths().cafile or certifi_file()
    given = {"ca_file": certificates, "proxy": "http://proxy:3128", "url": "https://monitor.example/x"}
    given |= {"temp": str(tmp_path), "memory": "1GB", "key_file": certificates}
    for top, cls in sections().items():
        for section, key in leaves(top, cls):
            default: Any = cls()
            for name in section.split(".")[1:]:
                default = getattr(default, name)
            default = getattr(default, key)
            value = given.get(key, 1) if default is None else default
            with monkeypatch.context() as within:
                file = None
                if where == "file":
                    file = write(tmp_path, f"[{section}]\n{key} = {as_toml(value)}\n")
                else:
                    within.setenv(variable_name(section, key), as_text(value))
                found: Any = read_sources(file, sections()).section(top, cls)
            for name in [*section.split(".")[1:], key]:
                found = getattr(found, name)
            assert found == value or str(found) == str(value), (section, key)


def certifi_file() -> str:
    pytest.skip("this machine has no file of certificates")


def as_toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def as_text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml does not exist"):
        read_sources(tmp_path / "gone.toml", SECTIONS)


def test_every_setting_has_a_docstring_and_a_default() -> None:
    for name, cls in sections().items():
        cls()
        undocumented = [field for field, doc in field_docs(cls).items() if not doc]
        assert not undocumented, f"[{name}] {undocumented}"
    assert field_docs(Sample)["interval_ms"] == "How often, in ms."
