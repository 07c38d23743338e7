"""Files of references and hypotheses: every format, and what is refused with its line."""

from __future__ import annotations

import json

import pytest

from uyir.decode.score import Options, read_texts, read_vocabulary, score_files
from uyir.decode.score.read import with_metadata
from uyir.errors import DataError

TA = "அவன் நேற்று வீட்டில் படித்தான்"
KN = "ಅವನು ನಿನ್ನೆ ಮನೆಯಲ್ಲಿ ಓದಿದನು"
TIMES = "".join(f"u1 1 {n}.0 0.5 {word}\n" for n, word in enumerate(TA.split()))
FILES = {
    "text": f"u1 {TA}\nu2\n",
    "tab": f"u1\t{TA}\nu2\n",
    "x.trn": f";; a comment\n{TA} (u1)\n(u2)\n",
    "x.tsv": f"u1\t{TA}\nu2\t\n",
    "headed.tsv": f"speaker\tid\ttext\ns\tu1\t{TA}\ns\tu2\t\n",
    "x.csv": f'path,sentence,client_id\n"u1.wav","{TA}",s\nu2.mp3,,s\n',
    "x.json": json.dumps([{"source": "in/u1.wav", "text": TA}, {"id": "u2", "text": ""}], indent=1),
    "x.jsonl": json.dumps({"source": "in/u1.wav", "text": TA})
    + '\n{"source": "u2.flac", "text": ""}\n',
    "nemo.jsonl": json.dumps({"audio_filepath": "/a/u1.wav", "duration": 2.5, "text": TA})
    + '\n{"audio_filepath": "/a/u2.wav", "duration": 1, "text": "", "pred_text": "x"}\n',
    "x.stm": f";; c\nu1 1 spk 0.0 4.0 <o,f0> {TA}\nu2 1 spk 0 1 <o,f0>\n",
    "crlf": f"\ufeffu1 {TA}\r\nu2\r\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_reads_the_same_utterances(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name].encode("utf-8"))
    assert read_texts(path).texts == {"u1": TA, "u2": ""}


def test_a_ctm_is_a_recording_an_utterance_in_order_of_time(tmp_path):
    lines = TIMES.splitlines(keepends=True)
    (tmp_path / "x.ctm").write_text("".join(lines[::-1]) + "u2 1 0 1 அவள் 0.9\n", encoding="utf-8")
    assert read_texts(tmp_path / "x.ctm").texts == {"u1": TA, "u2": "அவள்"}
    (tmp_path / "y.ctm").write_text(TIMES + "u1 2 0 1 அவள்\n", encoding="utf-8")
    assert read_texts(tmp_path / "y.ctm").texts == {"u1_1": TA, "u1_2": "அவள்"}


def test_words_of_a_ctm_go_into_the_segments_of_an_stm_by_their_middle(tmp_path):
    (tmp_path / "r.stm").write_text(
        "u1 1 a 0.0 1.9 <o> அவன் நேற்று\nu1 1 b 2.0 3.9 <o> வீட்டில் படித்தான்\n"
        "u1 1 c 5 6 IGNORE_TIME_SEGMENT_IN_SCORING\n",
        encoding="utf-8",
    )
    (tmp_path / "h.ctm").write_text(TIMES + "u1 1 5.2 0.2 ஐயோ\nu1 1 9 1 வெளியே\n", encoding="utf-8")
    report = score_files(tmp_path / "r.stm", tmp_path / "h.ctm", "ta", options=no_grammar())
    assert report.normalised.words.units == 4 and report.normalised.wer == 0.0
    assert report.extra == ("u1_1 outside of segments",)
    assert "1 segments are marked to be ignored, and with them 1 words" in report.notes[0]
    assert {group.name for group in report.groups["speaker"]} == {"a", "b"}


def no_grammar(**more):
    return Options("ta", grammar=False, **more)


def test_nemos_manifest_is_reference_and_hypothesis(tmp_path):
    path = tmp_path / "m.jsonl"
    rows = [
        {"audio_filepath": "a/1.wav", "duration": 1.5, "text": TA, "pred_text": TA},
        {
            "audio_filepath": "a/2.wav",
            "offset": 3.5,
            "duration": 12,
            "text": "அவன்",
            "pred_text": "அவள்",
        },
        {
            "audio_filepath": "a/2.wav",
            "offset": 0,
            "duration": 12,
            "text": "அவன்",
            "pred_text": "அவன்",
        },
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = score_files(path, path, "ta", options=no_grammar())
    assert (report.normalised.utterances, report.normalised.words.substitutions) == (3, 1)
    assert [item.id for item in report.utterances] == ["1", "2@3.5", "2"]
    assert [group.name for group in report.groups["duration"]] == ["up to 2 s", "10–20 s"]


def test_a_column_can_be_chosen(tmp_path):
    (tmp_path / "x.csv").write_text(f"id,gold,system\nu1,{TA},{KN}\n", encoding="utf-8")
    found = read_texts(tmp_path / "x.csv", column="gold")
    assert found.texts == {"u1": TA}
    assert read_texts(tmp_path / "x.csv", column="system", role="hyp").texts == {"u1": KN}
    with pytest.raises(DataError, match="no column 'silver'; there are id, gold, system"):
        read_texts(tmp_path / "x.csv", column="silver")


def test_a_folder_of_outputs_is_read(tmp_path):
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "u1.json").write_text(json.dumps({"source": "u1.wav", "text": TA}))
    (tmp_path / "txt").mkdir()
    (tmp_path / "txt" / "u1.txt").write_text(TA.replace(" ", "\n"), encoding="utf-8")
    assert read_texts(tmp_path / "json").texts == read_texts(tmp_path / "txt").texts == {"u1": TA}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text", b"u1 a\nu2 b\nu1 c\n", r"text:3: utterance 'u1' stands twice, first in line 1"),
        ("text", "u1 அ\n".encode() + b"u2 \xff\n", r"text:2: not UTF-8.*0xff"),
        ("text", "u1 அ\n".encode("utf-16"), r"text:1: UTF-16"),
        ("text", b"u1 a\nu2 b\0\n", r"text:2: a NUL"),
        ("text", "u1 a\n\ufeffu2 b\n".encode(), r"text:2: a byte order mark in the middle"),
        ("text", b"u1 a\r\nu2 b\rc\n", r"text:2: a carriage return inside"),
        ("x.txt", b"a\nb\rc\n", r"x.txt:2: a carriage return inside"),
        ("x.trn", b"a (u1)\nb\n", r"x.trn:2: no utterance id"),
        ("x.trn", b"{ a / b } (u1)\n", r"x.trn:1: alternatives"),
        ("x.tsv", b"u1\ta\nu2\n", r"x.tsv:2: 1 columns, want 2"),
        ("x.tsv", b"u1\ta\tb\n", r"x.tsv:1: 3 columns; want an id and a text, or a header"),
        ("x.tsv", b"id\ttext\n\ta\n", r"x.tsv:2: no id"),
        ("x.csv", b'id,text\nu1,"a\nu2,b\n', r"x.csv:2: not CSV"),
        ("x.csv", b'id,text\nu1,"a\nb"\nu1,c\n', r"x.csv:4: utterance 'u1' stands twice.*line 2"),
        ("x.csv", b"id,text\na/1.wav,x\n", None),
        ("y.tsv", b"path\ttext\na/1.wav\tx\nb/1.wav\ty\n", r"y.tsv:3: .*--full_paths"),
        ("x.json", b'{"source": "a.wav"}', r"x.json:1: an object without a 'text'"),
        ("x.json", b"[1]", r"x.json:1: want objects"),
        ("x.json", b'[{"id": "a", "text": ""},\n{"id": "a", "text": ""}]', r"x.json:2: .*twice"),
        ("x.json", b'[{"id": "a", "text": ""}', r"x.json:1: not JSON: the list does not end"),
        ("x.jsonl", b'{"id": "a", "text": ""}\n{', r"x.jsonl:2: not JSON"),
        ("x.ctm", b"a 1 0 1 x\na 1 zero 1 x\n", r"x.ctm:2: 'zero' is no time"),
        ("x.ctm", b"a 1 0\n", r"x.ctm:1: 3 columns; want file channel"),
        ("x.ctm", b"a 1 * * <ALT_BEGIN>\n", r"x.ctm:1: alternatives"),
        ("x.stm", b"a 1 s 2 1 <o> x\n", r"x.stm:1: it ends at 1 before it begins at 2"),
        ("gone.txt", None, r"gone.txt: No such file"),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    if message is None:
        assert read_texts(tmp_path / name).texts == {"1": "x"}
        return
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path / name)


def file(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_files_that_cannot_be_matched_are_refused(tmp_path):
    two, three = file(tmp_path, "2.txt", f"{TA}\n{TA}\n"), file(tmp_path, "3.txt", f"{TA}\n" * 3)
    options = no_grammar()
    with pytest.raises(DataError, match="has 2 lines"):
        score_files(two, three, "ta", options=options)
    with pytest.raises(DataError, match="a line an utterance"):
        score_files(two, file(tmp_path, "x.trn", f"{TA} (u1)\n"), "ta", options=options)
    a, b = (file(tmp_path, f"{n}.trn", f"{TA} ({n}1)\n") for n in "ab")
    with pytest.raises(DataError, match="no utterance is in both"):
        score_files(a, b, "ta", options=options)
    with pytest.raises(DataError, match="no utterance in it"):
        score_files(file(tmp_path, "empty.trn", ""), a, "ta", options=options)


def test_a_file_of_another_script_is_refused_with_its_line(tmp_path):
    tamil = file(tmp_path, "ta", f"u1 {TA}\nu2 {TA}\n")
    kannada = file(tmp_path, "kn", f"u1 12\nu2 {KN}\n")
    latin = file(tmp_path, "latin", "u1 12\nu2 avan\n")
    options = no_grammar()
    with pytest.raises(DataError, match="ta:1: in the script of 'ta', not of 'kn'"):
        score_files(tamil, kannada, "kn", options=options)
    with pytest.raises(DataError, match="kn:2: in the script of 'kn', not of 'ta'"):
        score_files(tamil, kannada, "ta", options=options)
    with pytest.raises(DataError, match="latin:1: not a letter of 'ta' in it"):
        score_files(tamil, latin, "ta", options=options)
    anyway = score_files(tamil, kannada, "ta", options=no_grammar(any_script=True))
    assert anyway.normalised.words.errors == 8
    mixed = file(tmp_path, "mixed", f"u1 {TA}\nu2 {KN}\n")
    report = score_files(tamil, mixed, "ta", options=options)
    assert "1 utterances are in the script of 'kn'; first 'u2' in line 2" in report.notes[0]


def test_what_a_wrong_decoding_left_is_noted(tmp_path):
    tamil = file(tmp_path, "ta", f"u1 {TA}\nu2 {TA}\ufffd\n")
    assert "1 utterances hold U+FFFD" in read_texts(tamil).notes[0]
    assert "line 2" in read_texts(tamil).notes[0]


def test_missing_and_extra_utterances_are_listed_and_treated_as_asked(tmp_path):
    ref = file(tmp_path, "ref", f"a {TA}\nb அவன்\n")
    hyp = file(tmp_path, "hyp", f"a {TA}\nc அவள் வந்தாள்\n")

    def words(**rules):
        report = score_files(ref, hyp, "ta", options=no_grammar(**rules))
        assert (report.missing, report.extra) == (("b",), ("c",))
        counts = report.normalised.words
        return counts.units, counts.deletions, counts.insertions

    assert words() == (5, 1, 0)
    assert words(missing="skip") == (4, 0, 0)
    assert words(extra="count") == (5, 1, 2)
    with pytest.raises(DataError, match=r"ref:2: .*hyp lacks 1 utterances, first 'b'"):
        words(missing="error")
    with pytest.raises(DataError, match=r"hyp:2: .*ref lacks 1 utterances, first 'c'"):
        words(extra="error")
    with pytest.raises(DataError, match="count, skip, error, not 'guess'"):
        words(missing="guess")


def test_metadata_joins_by_id(tmp_path):
    ref = read_texts(file(tmp_path, "ref", f"a {TA}\nb {TA}\n"))
    table = file(tmp_path, "m.tsv", "id\tclient_id\tage\taudio\na\tmani\t30\tx/a.wav\n")
    found = with_metadata(ref, table)
    assert found.utterances["a"].meta == {"speaker": "mani", "age": "30"}
    assert found.utterances["a"].audio == "x/a.wav"
    assert "nothing of 1 utterances, first 'b'" in found.notes[0]
    kaldi = with_metadata(ref, file(tmp_path, "utt2spk", "a mani\nb devi\n"))
    assert [u.meta["speaker"] for u in kaldi.utterances.values()] == ["mani", "devi"]
    lines = with_metadata(ref, file(tmp_path, "m.jsonl", '{"id": "b", "duration": 2}\n'))
    assert lines.utterances["b"].meta == {"duration": "2"}
    with pytest.raises(DataError, match="none of the utterances"):
        with_metadata(ref, file(tmp_path, "other.tsv", "id\tage\nz\t3\n"))
    with pytest.raises(DataError, match="utt2spk:1: 3 columns"):
        with_metadata(ref, file(tmp_path, "utt2spk", "a mani x\n"))
    with pytest.raises(DataError, match=r"other.csv:1: no column"):
        with_metadata(ref, file(tmp_path, "other.csv", "age\n3\n"))


def test_a_vocabulary_is_normalised_as_the_texts_are(tmp_path):
    path = file(tmp_path, "v.txt", "அவா் 0.5\nவந்தான்,\n")
    assert read_vocabulary(path, "ta") == {"அவர்", "வந்தான்"}
    with pytest.raises(DataError, match="no word"):
        read_vocabulary(file(tmp_path, "e.txt", "\n"), "ta")
