from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from uyir.decode.output import (
    WRITERS,
    cues_of,
    find_inputs,
    utterance_id,
    write_atomically,
    write_outputs,
)
from uyir.decode.transcribe import Segment, SpokenSubword, SpokenWord, Transcript
from uyir.errors import DataError


def word(text, start, end):
    piece = SpokenSubword(text, text, "other", "", start, end, 0.8)
    return SpokenWord(text, start, end, 0.8, None, (piece,))


def transcript(*segments, source="talks/day 1.wav"):
    made = tuple(
        Segment(s[0].start, s[-1].end, " ".join(w.word for w in s), tuple(s), 0.8, True)
        for s in segments
    )
    return Transcript(source, "ta", made, 4000.0, "kaldi", "toy")


TWO = transcript([word("அவன்", 0.5, 0.9), word("வந்தான்", 1.0, 1.6)], [word("ஆம்", 3661.25, 3661.5)])


def test_text_has_a_line_a_segment():
    assert WRITERS["txt"](TWO) == "அவன் வந்தான்\nஆம்\n"


def test_srt():
    assert WRITERS["srt"](TWO) == (
        "1\n00:00:00,500 --> 00:00:01,600\nஅவன் வந்தான்\n\n2\n01:01:01,250 --> 01:01:01,500\nஆம்\n"
    )


def test_vtt_escapes_its_markup():
    odd = transcript([word("<b>&", 0.0, 1.0)])
    assert WRITERS["vtt"](odd) == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n&lt;b&gt;&amp;\n"


def test_tsv_is_in_milliseconds():
    assert WRITERS["tsv"](TWO).splitlines()[1] == "500\t1600\tஅவன் வந்தான்"


def test_ctm_has_start_and_duration_of_each_word():
    assert WRITERS["ctm"](TWO).splitlines()[1] == "day_1 1 1.000 0.600 வந்தான் 0.800"


def test_an_empty_transcript_is_written_in_every_format():
    empty = transcript()
    have = {form: writer(empty) for form, writer in WRITERS.items()}
    assert have["txt"] == have["srt"] == have["ctm"] == ""
    assert have["vtt"] == "WEBVTT\n"
    assert have["tsv"] == "start\tend\ttext\n"
    assert have["trn"] == "(day_1)\n"
    found = json.loads(have["json"])
    assert found["no_speech"] is True and found["words"] == []


def test_json_says_nothing_of_the_clock():
    slow = Transcript("a.wav", "ta", (), 1.0, "kaldi", "toy", rtf=3.0)
    fast = Transcript("a.wav", "ta", (), 1.0, "kaldi", "toy", rtf=0.1)
    assert WRITERS["json"](slow) == WRITERS["json"](fast)


def test_ids_have_no_space_or_brackets():
    assert utterance_id(transcript(source="x/a (b) c.flac")) == "a__b__c"


@pytest.mark.skipif(not (shutil.which("sctk") or shutil.which("sclite")), reason="no sclite here")
def test_sclite_takes_our_trn(tmp_path):
    (tmp_path / "ref.trn").write_text(WRITERS["trn"](TWO), encoding="utf-8")
    (tmp_path / "hyp.trn").write_text(WRITERS["trn"](TWO), encoding="utf-8")
    program = ["sclite"] if shutil.which("sclite") else ["sctk", "sclite"]
    done = subprocess.run(
        [
            *program,
            "-r",
            "ref.trn",
            "trn",
            "-h",
            "hyp.trn",
            "trn",
            "-i",
            "spu_id",
            "-o",
            "sum",
            "stdout",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert re.search(r"Sum/Avg\s*\|\s*1\s+3\s*\|\s*100\.0\s", done.stdout), done.stdout


def test_cues_break_at_pauses_and_never_overlap_or_run_long():
    words = [word(f"சொல்{i}", 0.5 * i, 0.5 * i + 0.4) for i in range(40)]
    words += [word("பிறகு", 30.0, 30.0)]
    cues = cues_of(transcript(words))
    assert all(start < end and end - start <= 7.0 + 1e-6 for start, end, _ in cues)
    assert all(a[1] <= b[0] + 1e-6 for a, b in zip(cues, cues[1:]))
    assert max(len(text) for _, _, text in cues) <= 84
    assert cues[-1][2] == "பிறகு"
    assert " ".join(text for *_, text in cues) == " ".join(w.word for w in words)


def test_names_never_collide(tmp_path):
    for name in ("a.wav", "a.flac", "b.wav", "deep/a.wav", "deep/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    inputs, problems = find_inputs([str(tmp_path), str(tmp_path / "b.wav"), "elsewhere/b.wav"])
    assert not problems
    names = [str(entry.output) for entry in inputs]
    assert names == ["a.flac", "a.wav", "b.wav", "deep/a", "b.wav~2", "b.wav~3"]


def test_output_stays_inside_its_folder(tmp_path):
    inputs, _ = find_inputs(["../../etc/x.wav", "/abs/y.wav"])
    for entry in inputs:
        for path in write_outputs(TWO, entry.output, tmp_path, ("txt",)):
            assert tmp_path in path.resolve().parents


def test_a_hollow_folder_is_a_problem(tmp_path):
    inputs, problems = find_inputs([str(tmp_path)])
    assert not inputs and "no recordings" in problems[0] and str(tmp_path) in problems[0]


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.txt"
    write_atomically(path, "old\n")
    assert path.read_text() == "old\n"

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(DataError, match=r"a\.txt: cannot be written: No space left"):
        write_atomically(path, "new\n")
    assert path.read_text() == "old\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
