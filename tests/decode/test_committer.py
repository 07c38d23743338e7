"""Files that are written together: whole or not at all, each with its own fate."""

from __future__ import annotations

import pytest

from uyir.decode import files
from uyir.decode.archive import Committer
from uyir.decode.files import OutputFolder
from uyir.errors import DataError


@pytest.mark.parametrize("syncfs", [True, False])
def test_many_files_are_written_and_one_that_cannot_be_costs_the_others_nothing(
    tmp_path, monkeypatch, syncfs
):
    from pathlib import Path

    if not syncfs:
        monkeypatch.setattr(files, "_syncfs", lambda: None)
    output = OutputFolder(tmp_path / "out")
    (tmp_path / "out" / "r7.txt").mkdir()  # a folder stands where a file is to be
    named = [(Path(f"r{i}.txt"), b"%d" % i) for i in range(20)] + [(Path("../r.txt"), b"")]
    found = output.write_all(named)
    wrong = [i for i, problem in enumerate(found) if problem is not None]
    assert wrong == [7, 20] and all(isinstance(found[i], DataError) for i in wrong)
    for i in range(20):
        if i != 7:
            assert (tmp_path / "out" / f"r{i}.txt").read_bytes() == b"%d" % i
    assert not (tmp_path / "r.txt").exists()
    assert list((tmp_path / "out" / ".uyir-making").iterdir()) == []


def test_a_committer_takes_what_waits_and_keeps_the_order():
    sizes = []

    def commit(results):
        sizes.append(len(results))
        return [(result, {}, None) for result in results]

    found = []
    with Committer(commit) as committer:
        for i in range(5000):
            committer.put(i)
            found += [w[0] for w in committer.done()]
        found += [w[0] for w in committer.all()]
    assert found == list(range(5000))
    assert sum(sizes) == 5000 and max(sizes) <= 256


def test_what_goes_wrong_in_the_thread_is_raised_where_it_is_waited_for():
    def commit(results):
        raise ZeroDivisionError("a fault")

    with Committer(commit) as committer:
        committer.put(1)
        with pytest.raises(ZeroDivisionError):
            list(committer.all())
