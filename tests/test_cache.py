"""Where the cache folder is."""

from __future__ import annotations

from pathlib import Path

import pytest

from uyir.cache import cache_folder


@pytest.mark.parametrize(
    "own,xdg,want",
    [
        ("/own", "/xdg", "/own"),
        ("", "/xdg", "/xdg/uyir"),
        ("", "", "/home/someone/.cache/uyir"),
        ("", "relative", "/home/someone/.cache/uyir"),
    ],
)
def test_own_variable_then_the_desktops_then_home(
    monkeypatch: pytest.MonkeyPatch, own: str, xdg: str, want: str
) -> None:
    monkeypatch.setenv("UYIR_CACHE", own)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path(want)
