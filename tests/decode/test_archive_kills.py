"""The small form of `benchmarks/archive_kills.py`: ten ways to be bad, kills, the same bytes in the end."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

_path = Path(__file__).resolve().parents[2] / "benchmarks" / "archive_kills.py"
_spec = importlib.util.spec_from_file_location("archive_kills", _path)
kills = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kills)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    return folder, kills.make_archive(folder, 120, (0.3, 0.6))


def test_bad_ones_are_named_and_a_killed_run_comes_to_the_same_bytes(archive, toy_model, tmp_path):
    folder, bad = archive
    assert sorted(bad.values()) == sorted(kills.WAYS) and len(kills.WAYS) == 10
    more = ["-l", "ta", "--model", str(toy_model(tmp_path / "toy")), "--threads", "2"]

    def run(name):
        return kills.command(folder, tmp_path / name, tmp_path / f"{name}.jsonl", more)

    done = subprocess.run(run("whole"), capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert kills.check_undisturbed(folder, tmp_path / "whole", tmp_path / "whole.jsonl", bad) == []
    hit, wrong = kills.kill_at_random(run("killed"), tmp_path / "killed", 110, 2)
    assert wrong == []
    last = subprocess.run(run("killed"), capture_output=True, text=True)
    assert last.returncode == 1 and hit >= 1
    assert kills.tree(tmp_path / "killed") == kills.tree(tmp_path / "whole")
    assert len(kills.tree(tmp_path / "whole")) == 2 * 110 + 1


def test_the_check_sees_what_is_missing(archive, tmp_path):
    folder, bad = archive
    log = tmp_path / "log.jsonl"
    log.write_text("")
    wrong = kills.check_undisturbed(folder, tmp_path, log, bad)
    assert len(wrong) == 10 + 2 * 110
