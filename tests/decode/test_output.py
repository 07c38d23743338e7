from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from uyir.decode.output import WRITERS, Style, cues_of, utterance_id, writers
from uyir.decode.transcript import Segment, SpokenSubword, SpokenWord, Transcript


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
    assert "xmax = 4000.0000" in have["textgrid"]


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


def test_style_narrows_subtitles_and_leaves_words_out():
    words = [word(f"சொல்{i}", 0.5 * i, 0.5 * i + 0.4) for i in range(8)]
    assert [len(text.split()) for *_, text in cues_of(transcript(words), Style(words=3))] == [
        3,
        3,
        2,
    ]
    assert max(len(text) for *_, text in cues_of(transcript(words), Style(letters=12))) <= 12
    assert "words" not in json.loads(writers(Style(times=False))["json"](TWO))


def test_a_number_in_written_form_stays_in_one_subtitle():
    first = replace(word("இருபத்து", 0.0, 0.5), written="25")
    second = replace(word("ஐந்து", 1.5, 2.0), written="")
    found = transcript([first, second, word("பேர்", 2.1, 2.5)])
    assert [text for *_, text in cues_of(found)] == ["25 பேர்"]
    assert WRITERS["trn"](found) == "இருபத்து ஐந்து பேர் (day_1)\n"


# --------------------------------------------------------------------------------------------------
# Independent readers


AWKWARD = transcript(
    [word("<b>&amp;", 0.0, 0.0), word('"வந்தான்"', 0.0, 1.6), word("-->", 1.6, 1.7)],
    [word("அவன்", 1.5, 2.0), word("ஆம்", 3661.25, 3661.5)],
)


@pytest.mark.parametrize("found", [TWO, AWKWARD], ids=["plain", "awkward"])
def test_webvtt_reads_our_vtt_and_srt(tmp_path, found):
    webvtt = pytest.importorskip("webvtt", reason="webvtt-py is not installed")
    path = tmp_path / "a.vtt"
    path.write_text(WRITERS["vtt"](found), encoding="utf-8")
    cues = cues_of(found)
    read = [(c.start_in_seconds, c.text) for c in webvtt.read(str(path))]
    assert [html.unescape(text) for _, text in read] == [text for *_, text in cues]
    assert [start for start, _ in read] == [int(start) for start, *_ in cues]
    path = tmp_path / "a.srt"
    path.write_text(WRITERS["srt"](found), encoding="utf-8")
    assert len(webvtt.from_srt(str(path))) == len(cues)


@pytest.mark.parametrize("found", [TWO, AWKWARD], ids=["plain", "awkward"])
def test_pysubs2_reads_our_srt(found):
    pysubs2 = pytest.importorskip("pysubs2", reason="pysubs2 is not installed")
    subtitles = pysubs2.SSAFile.from_string(WRITERS["srt"](found), format_="srt")
    cues = cues_of(found)
    assert [(e.start, e.end) for e in subtitles] == [
        (round(1000 * start), round(1000 * end)) for start, end, _ in cues
    ]
    if found is TWO:
        assert [e.plaintext for e in subtitles] == [text for *_, text in cues]


@pytest.mark.parametrize("found", [TWO, AWKWARD, transcript()], ids=["plain", "awkward", "empty"])
def test_textgrid_readers_take_ours(tmp_path, found):
    path = tmp_path / "a.TextGrid"
    path.write_text(WRITERS["textgrid"](found), encoding="utf-8")
    texts = [w.word for w in found.words]
    textgrid = pytest.importorskip("textgrid", reason="textgrid is not installed")
    grid = textgrid.TextGrid.fromFile(str(path))
    assert grid.getNames() == ["segments", "words", "subwords"]
    assert [i.mark for i in grid.getFirst("words") if i.mark] == texts


@pytest.mark.parametrize("found", [TWO, AWKWARD, transcript()], ids=["plain", "awkward", "empty"])
def test_praatio_takes_our_textgrids(tmp_path, found):
    path = tmp_path / "a.TextGrid"
    path.write_text(WRITERS["textgrid"](found), encoding="utf-8")
    pytest.importorskip("praatio", reason="praatio is not installed")
    from praatio import textgrid

    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="error")
    assert grid.maxTimestamp == 4000.0
    entries = grid.getTier("words").entries
    assert [entry.label for entry in entries] == [w.word for w in found.words]
    for entry, spoken in zip(entries, found.words):
        assert entry.start == pytest.approx(spoken.start, abs=0.2)
