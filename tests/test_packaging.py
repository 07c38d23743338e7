"""The wheel: it holds all of the packages and nothing else, and works outside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from uyir import __version__

ROOT = Path(__file__).resolve().parent.parent
# import name → folder, as in pyproject.toml (which the k2 lane's Python has no parser for).
PACKAGES = {
    "uyir": "uyir",
    "uyir/asr": "asr",
    "uyir/decode": "decode",
    "uyir/grammar": "grammar",
    "uyir/lexicon": "lexicon",
    "uyir/recipes": "recipes",
}


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build from: setuptools writes into the tree it builds."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in PACKAGES.values():
        shutil.copytree(
            ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "-w", str(out), ".", cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-compile"]
    run(*pip, "--target", str(folder), str(wheel), cwd=folder)
    return folder


def test_the_tracked_tree_stays_small() -> None:
    """40 MiB in all, models and graphs included, and no file of 16 MB."""
    try:
        listed = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    except (AssertionError, OSError):
        pytest.skip("not a git checkout")
    sizes = {name: (ROOT / name).stat().st_size for name in listed if (ROOT / name).is_file()}
    assert sum(sizes.values()) <= 40 * 2**20
    assert max(sizes.values()) < 16_000_000


def test_wheel_holds_every_file_of_every_package_and_no_other(source: Path, wheel: Path) -> None:
    expected = set()
    for package, folder in PACKAGES.items():
        for path in (source / folder).rglob("*"):
            if path.is_file():
                expected.add(f"{package}/{path.relative_to(source / folder).as_posix()}")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(f"uyir-{__version__}.dist-info/METADATA").decode()
    assert held == expected
    # A folder that was moved would leave both sides equal and empty.
    assert {"uyir/cli.py", "uyir/grammar/ta/script.tsv", "uyir/demo/kn/kn01.flac"} <= held
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.9" in metadata


def test_installed_wheel_works_outside_the_repository(site: Path, tmp_path: Path) -> None:
    code = (
        "import importlib, pkgutil, uyir\n"
        "names = ['uyir.grammar', 'uyir.lexicon', 'uyir.asr', 'uyir.decode', 'uyir.decode.engines']\n"
        "for name in names: print(importlib.import_module(name).__file__)\n"
        "from uyir.grammar.script import compose, decompose\n"
        "assert compose(decompose('தான்', 'ta'), 'ta') == 'தான்'\n"
    )
    shown = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(site))
    assert len(shown.splitlines()) == 5
    for line in shown.splitlines():
        assert line.startswith(str(site)), "imported from the repository, not from the wheel"


def test_console_script(site: Path, tmp_path: Path) -> None:
    shown = run(str(site / "bin" / "uyir"), "--version", cwd=tmp_path, PYTHONPATH=str(site))
    assert shown == f"uyir, version {__version__}\n"
