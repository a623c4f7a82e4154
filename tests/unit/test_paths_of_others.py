"""Names that this program did not choose lead below a folder, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysplit.paths import (
    checked_location,
    checked_steps,
    fresh_folder,
    inside,
    own_folder,
    refuse_links_out,
)

WAYS_OUT = [
    "..", ".", "", "/", "a/", "/a", "//a", "a//b", "a/..", "../a", "a/../b", "a/./b", "./a", "..\\a", "a\\b",
    "C:\\a", "a\0b",
    "a\nb", "\x1b[2J", "a\u202eb", "\ud800", "b" * 256, "ä" * 128,
]  # fmt: skip


@pytest.mark.parametrize("name", WAYS_OUT)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    """A key of a bucket had ``..`` in it, and was written over a file of the user outside the copy of the run."""
    with pytest.raises(ValueError, match="cannot name a file"):
        inside(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["a", "a/b", "...", "..a", "a..", ".lock", "a b", "ä", "checkpoints/round-000001.ckpt"]
)
def test_other_names_lead_below_the_folder(name: str, tmp_path: Path) -> None:
    assert inside(tmp_path, name) == tmp_path / name


_STEP = st.sampled_from(["..", ".", "", "a", "b.c", "\\", "\0", "~", "$HOME", "%2e%2e", "…", "C:"])


@given(st.lists(st.one_of(_STEP, st.text(max_size=4)), max_size=6).map("/".join))
def test_no_name_leads_out(name: str) -> None:
    folder = Path("/somewhere/deep/down")
    try:
        path = folder.joinpath(*checked_steps(name))
    except ValueError:
        return
    assert os.path.normpath(path) == str(path)
    assert path.is_relative_to(folder)
    assert path != folder


def test_a_name_behind_a_link_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "out").symlink_to(tmp_path / "target")
    (folder / "within").symlink_to(folder / "deep")
    with pytest.raises(ValueError, match=r"out of .*; links out of a folder are not followed"):
        inside(folder, "out/config.yaml")
    assert inside(folder, "within/config.yaml") == folder / "within/config.yaml"
    with pytest.raises(ValueError, match=r"link to .*target"):
        refuse_links_out(folder)
    (folder / "out").unlink()
    refuse_links_out(folder)


@pytest.mark.parametrize(
    "location",
    ["", " ", "://", "s3://", "s3:///", "file://", "://x", "file:///", "s3://?region=x", "s3://b/../x", "gs://b/."],
)
def test_half_a_location_is_refused(location: str) -> None:
    """An empty root was taken for the root of the file system, and ``://`` for a folder ``:``."""
    with pytest.raises(ValueError, match=r"no folder|half a URI|has . or .. in it"):
        checked_location(location)


@pytest.mark.parametrize("location", ["runs", ".", "../runs", "/", "s3://b", "file:///a/b", "s3://b/a?region=x&y=../z"])
def test_whole_locations_stay(location: str) -> None:
    assert checked_location(location) == location


def test_the_cache_is_this_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of runs were kept under foreseeable names in the temporary folder that all users share."""
    monkeypatch.delenv("RAYSPLIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert own_folder("runs") == tmp_path / "xdg" / "raysplit" / "runs"
    monkeypatch.setenv("RAYSPLIT_CACHE", str(tmp_path / "cache"))
    found = own_folder("runs")
    assert found == tmp_path / "cache" / "runs"
    assert found.stat().st_mode & 0o777 == 0o700
    found.chmod(0o755)
    assert own_folder("runs").stat().st_mode & 0o777 == 0o700
    first, second = fresh_folder("runs"), fresh_folder("runs")
    assert first != second
    assert first.parent == second.parent == found


def test_a_cache_folder_of_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that lay at the foreseeable place of a copy sent the files of a run into another folder."""
    monkeypatch.setenv("RAYSPLIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "runs").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"cache folder .*runs is a link; remove it, or set RAYSPLIT_CACHE"):
        own_folder("runs")
    (tmp_path / "cache" / "runs").unlink()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(ValueError, match="others can write to the cache folder"):
        own_folder("runs")
    (tmp_path / "cache").chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(ValueError, match="others can write to the cache folder"):
        own_folder("runs")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAYSPLIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"the cache folder .*file cannot be made: File exists"):
        own_folder("runs")
