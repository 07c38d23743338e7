"""`uyir score` and `uyir compare` as a user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from uyir.cli import main
from uyir.decode.score import FORMATS, report
from uyir.decode.score.background import Background
from uyir.decode.score.commands import FORMS
from uyir.errors import DataError

TA = "அவன் நேற்று வீட்டில் படித்தான்"
README = Path(__file__).parents[2] / "decode" / "score" / "README.md"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "ref").write_text(f"a {TA}\nb அவன்\n", encoding="utf-8")
    (tmp_path / "hyp").write_text("a அவன் நேத்து வீட்டில் படித்தான்\nb அவன் தான்\n", encoding="utf-8")
    (tmp_path / "good").write_text(f"a {TA}\nb அவன் தான்\n", encoding="utf-8")
    (tmp_path / "m.tsv").write_text("id\tspeaker\tage\na\tx\t30\nb\ty\t40\n", encoding="utf-8")
    return tmp_path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_the_command_prints_tables_or_the_documented_json(files, capsys):
    common = ("score", files / "ref", files / "hyp", "-l", "ta", "--metadata", files / "m.tsv")
    vocabulary = ("--vocabulary", files / "good")
    assert run(*common, "--by", "age", *vocabulary) == 0
    table = capsys.readouterr().out
    for text in ("WER", "0.4000", "By speaker", "By age", "By category", "By vocabulary", "நேத்து"):
        assert text in table, text
    assert run(*common, "--by", "age", *vocabulary, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["wer"], found["words"], found["hits"]) == (0.4, 5, 4)
    assert (found["substitutions"], found["deletions"], found["insertions"]) == (1, 0, 1)
    assert (
        found["ser"] == 1.0 and found["utterances"] == 2 and set(found["by"]) == {"speaker", "age"}
    )
    documented = README.read_text(encoding="utf-8")
    nested = (found["raw"], found["characters"], found["confusions"], found["drawn"])
    for key in {*found, *(key for part in nested for key in part)}:
        assert f"`{key}`" in documented, key


def test_every_option_is_documented_and_formats_are_those_that_are_read():
    from uyir.decode.score import commands

    assert FORMS == FORMATS
    documented = README.read_text(encoding="utf-8")
    for command in (commands.score, commands.compare):
        for option in command.params:
            if option.opts[0].startswith("--"):
                assert f"`{option.opts[0]}" in documented, option.opts


def test_errs_and_page_are_written(files, capsys):
    page, errs = files / "p.html", files / "e.txt"
    common = ("score", files / "ref", files / "hyp", "-l", "ta", "--no_grammar")
    assert run(*common, "--html", page, "--errs", errs) == 0
    assert "<svg" not in page.read_text(encoding="utf-8")  # no speakers are known
    lines = errs.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "%WER = 40.00"
    assert lines[1].startswith("Errors: 1 insertions, 0 deletions, 1 substitutions, over 5 ")
    assert "a:\tஅவன் (நேற்று->நேத்து) வீட்டில் படித்தான்" in lines
    assert "b:\tஅவன் (*->தான்)" in lines
    assert "1   நேற்று -> நேத்து" in lines and "1   தான்" in lines
    assert "நேற்று   0 1 1 0" in lines and "அவன்   2 0 2 2" in lines
    assert run(*common, "--embed_audio") == 2
    assert "--html" in capsys.readouterr().err


def test_missing_and_extra_are_said_on_stderr(files, capsys):
    (files / "part").write_text(f"a {TA}\nz அவன்\n", encoding="utf-8")
    assert run("score", files / "ref", files / "part", "-l", "ta", "--no_grammar") == 0
    said = capsys.readouterr()
    assert "1 utterances are missing from" in said.err and "1 utterances are extra in" in said.err
    assert "1 missing from the hypothesis (counted): b" in said.out
    assert "1 extra in the hypothesis (not counted): z" in said.out
    assert run("score", files / "ref", files / "part", "-l", "ta", "--extra", "error") == 1
    assert "part:2" in capsys.readouterr().err


def test_systems_are_compared_as_a_table_for_a_paper(files, capsys):
    common = ("compare", files / "hyp", files / "good", "-r", files / "ref", "-l", "ta")
    table = files / "d.tsv"
    assert (
        run(*common, "--no_grammar", "--name", "old", "--name", "new", "--differences", table) == 0
    )
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert re.match(r"\| old \| 40\.00 \|", rows[2]) and re.match(
        r"\| new \| \*\*20\.00\*\*", rows[3]
    )
    lines = table.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 and lines[1].startswith("a\tnew\t1\t0\t")
    assert run(*common, "--no_grammar", "-f", "latex") == 0
    assert r"\textbf{20.00}" in capsys.readouterr().out
    assert run(*common, "--no_grammar", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [system["wer"] for system in found["systems"]] == [0.4, 0.2]
    assert found["systems"][1]["mapsswe"]["segments"] == 2 and found["differing"] == 1
    documented = README.read_text(encoding="utf-8")
    for key in {*found, *found["systems"][1], *found["differences"][0]}:
        assert f"`{key}`" in documented, key
    assert run(*common, "--name", "one") == 2


def test_wrong_usage_is_said(files, capsys):
    assert run("score", "-", "-", "-l", "ta") == 2
    pattern = ("--speaker_pattern", "(")
    assert run("score", files / "ref", files / "hyp", "-l", "ta", *pattern) == 2
    assert "--speaker_pattern" in capsys.readouterr().err


def test_work_beside_the_rest_gives_the_same(files, monkeypatch):
    plain = report.score_files(files / "ref", files / "hyp", "ta")
    monkeypatch.setattr(report, "_MANY_UTTERANCES", 0)
    beside = report.score_files(files / "ref", files / "hyp", "ta")
    assert beside.categories == plain.categories and beside.positions == plain.positions

    def fail(*_):
        raise DataError("no such thing")

    for apart in (True, False):
        beside = Background(lambda: 2, lambda state, data: state * data, apart)
        beside.give(21)
        assert beside.result() == 42
        for prepare, work in ((fail, max), (int, fail)):
            failing = Background(prepare, work, apart)
            failing.give(1)
            with pytest.raises(DataError, match="no such thing"):
                failing.result()
