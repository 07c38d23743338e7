"""The lanes of `make test`: where each finds its Python, and what is said of one that is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = "bash dirname sed grep tail tr tee mkdir make touch sh awk sort"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our lane script and nothing else, on a machine that has no Python at all."""
    script(tmp_path / ".ci" / "lane", "")
    shutil.copy(ROOT / ".ci" / "lane", tmp_path / ".ci" / "lane")
    (tmp_path / "Makefile").write_text("%/.installed-test:\n\t@:\n", encoding="utf-8")
    (tmp_path / "bin").mkdir()
    for name in TOOLS.split():
        found = shutil.which(name)
        assert found, f"this test needs {name}"
        (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def lane(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(project / ".ci" / "lane"), *arguments],
        cwd=os.sep,
        env={"PATH": str(project / "bin"), "HOME": str(project / "home"), **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_python_on_path_comes_first(project: Path) -> None:
    script(project / "bin" / "python3.12", "exit 0")
    wanted = script(project / "bin" / "python3.11", "exit 0")
    done = lane(project, "python", "main")
    assert (done.returncode, done.stdout) == (0, f"{wanted}\n")


def test_main_takes_3_12_where_3_11_is_not(project: Path) -> None:
    wanted = script(project / "bin" / "python3.12", "exit 0")
    assert lane(project, "python", "main").stdout == f"{wanted}\n"


def test_a_shim_that_does_not_run_is_passed_over_for_pyenvs_own(project: Path) -> None:
    script(
        project / "bin" / "python3.9", "echo 'pyenv: python3.9: command not found' >&2; exit 127"
    )
    wanted = script(project / "home/.pyenv/versions/3.9.18/bin/python", "exit 0")
    done = lane(project, "python", "k2")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{wanted}\n", "")


def test_pyenv_elsewhere(project: Path) -> None:
    wanted = script(project / "tools/versions/3.9.1/bin/python", "exit 0")
    done = lane(project, "python", "k2", PYENV_ROOT=str(project / "tools"))
    assert done.stdout == f"{wanted}\n"


def test_no_python_says_what_is_wanted(project: Path) -> None:
    done = lane(project, "python", "k2")
    assert done.returncode == 1
    assert "no Python 3.9 " in done.stderr
    done = lane(project, "python", "main")
    assert done.returncode == 1
    assert "no Python 3.11 or 3.12 " in done.stderr


def test_unknown_lane_is_a_usage_error(project: Path) -> None:
    for command in ("python", "venv", "install"):
        done = lane(project, command, "py27", *(["run"] if command == "install" else []))
        assert done.returncode == 2
        assert "py27" in done.stderr


PASSING = """
echo "SKIPPED [1] tests/x.py:3: espeak-ng is not installed"
echo "SKIPPED [2] tests/y.py:7: could not import 'k2': No module named 'k2'"
echo "SKIPPED [3] tests/a/z.py:17: espeak-ng is not installed"
echo "==== 3 passed, 1 skipped in 0.10s ===="
"""


def environment_with(project: Path, venv: str, text: str) -> None:
    script(project / venv / "bin" / "python", text)


def test_both_lanes_run_and_skipped_tests_are_named(project: Path) -> None:
    environment_with(project, ".venv", PASSING)
    environment_with(project, ".venv-k2", PASSING.replace("3 passed", "4 passed"))
    done = lane(project, "test", "-x", CI="1")
    assert done.returncode == 0
    summary = done.stdout.split("== lanes ==\n")[1].splitlines()
    assert summary == [
        "lane main: passed:  3 passed, 1 skipped in 0.10s ",
        "lane main:   4 skipped: espeak-ng is not installed",
        "lane main:   2 skipped: could not import 'k2': No module named 'k2'",
        "lane k2: passed:  4 passed, 1 skipped in 0.10s ",
        "lane k2:   4 skipped: espeak-ng is not installed",
        "lane k2:   2 skipped: could not import 'k2': No module named 'k2'",
    ]


@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"CI": "1"}, 1), ({"CI": "true"}, 1)])
def test_a_missing_lane_is_said_and_fails_under_ci(
    project: Path, environment: dict[str, str], code: int
) -> None:
    environment_with(project, ".venv", PASSING)
    done = lane(project, "test", **environment)
    assert done.returncode == code
    last = done.stdout.splitlines()[-1]
    assert last.startswith("lane k2: FAILED, did not run" if code else "lane k2: did not run")
    assert "no Python 3.9 " in last


def test_a_failing_lane_fails_the_run_but_the_other_still_runs(project: Path) -> None:
    environment_with(project, ".venv", "echo '==== 1 failed, 2 passed in 0.10s ===='; exit 1")
    environment_with(project, ".venv-k2", PASSING)
    done = lane(project, "test")
    assert done.returncode == 1
    summary = done.stdout.split("== lanes ==\n")[1]
    assert "lane main: FAILED:  1 failed, 2 passed in 0.10s" in summary
    assert "lane k2: passed:  3 passed" in summary


def test_no_main_python_is_always_a_failure(project: Path) -> None:
    environment_with(project, ".venv-k2", PASSING)
    done = lane(project, "test")
    assert done.returncode == 1
    assert "lane main: FAILED, did not run: no Python 3.11 or 3.12" in done.stdout
