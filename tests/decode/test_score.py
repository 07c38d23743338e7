from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from uyir.cli import main
from uyir.decode.score import (
    Counts,
    align_counts,
    compare,
    graphemes,
    normalise_words,
    read_texts,
    score_files,
    score_pairs,
)
from uyir.errors import DataError
from uyir.grammar.script import normalise

TA = "அவன் நேற்று வீட்டில் படித்தான்"


def random_pairs(count, seed=0, alphabet="கசடதப", length=12):
    rng = random.Random(seed)
    words = ["".join(rng.choices(alphabet, k=rng.randint(1, 3))) for _ in range(12)]

    def text(least):
        return " ".join(rng.choices(words, k=rng.randint(least, length)))

    return [(text(1), text(0)) for _ in range(count)]


def by_hand(ref, hyp):
    """Levenshtein distance by the textbook."""
    row = list(range(len(hyp) + 1))
    for i, a in enumerate(ref, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(hyp, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def test_totals_are_jiwers_on_1000_random_pairs():
    jiwer = pytest.importorskip("jiwer")
    pairs = random_pairs(1000)
    for ref, hyp in pairs:
        ours = score_pairs([(ref, hyp)], "ta", normalised=False)
        theirs = jiwer.process_words(ref, hyp)
        assert ours.words.errors == theirs.substitutions + theirs.deletions + theirs.insertions
        assert ours.wer == pytest.approx(theirs.wer)
        assert ours.cer == pytest.approx(jiwer.cer(ref, hyp))
    refs, hyps = zip(*pairs)
    together = score_pairs(pairs, "ta", normalised=False)
    assert together.wer == pytest.approx(jiwer.wer(list(refs), list(hyps)))
    assert together.cer == pytest.approx(jiwer.cer(list(refs), list(hyps)))


def test_counts_equal_the_textbook_distance_and_add_up():
    for ref, hyp in random_pairs(300, seed=1):
        counts = align_counts(ref.split(), hyp.split())
        assert counts.errors == by_hand(ref.split(), hyp.split())
        assert (
            counts.units
            == len(ref.split())
            == counts.hits + counts.substitutions + counts.deletions
        )
        assert len(hyp.split()) == counts.hits + counts.substitutions + counts.insertions
        assert min(counts.hits, counts.substitutions, counts.deletions, counts.insertions) >= 0


def sclite_program():
    if shutil.which("sclite"):
        return ["sclite"]
    if shutil.which("sctk"):
        return ["sctk", "sclite"]
    return None


@pytest.mark.skipif(sclite_program() is None, reason="sclite is not installed (Debian: sctk)")
def test_word_counts_are_sclites_where_only_one_alignment_is_best(tmp_path):
    # ASCII, for sclite folds case and knows no Tamil; words of one letter each.
    pairs = [
        (a.translate(str.maketrans("கசடதப", "vwxyz")), b.translate(str.maketrans("கசடதப", "vwxyz")))
        for a, b in random_pairs(300, seed=2)
    ]
    for name, side in (("ref", 0), ("hyp", 1)):
        lines = [f"{pair[side]} (s_{i:04d})\n" for i, pair in enumerate(pairs)]
        (tmp_path / f"{name}.trn").write_text("".join(lines))
    out = subprocess.run(
        [
            *sclite_program(),
            "-r",
            "ref.trn",
            "trn",
            "-h",
            "hyp.trn",
            "trn",
            "-i",
            "spu_id",
            "-o",
            "pra",
            "stdout",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {
        m[0]: tuple(map(int, m[1:]))
        for m in re.findall(r"id: \((\S+)\)\s+Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", out)
    }
    assert len(found) == len(pairs)
    worse = 0
    for i, (ref, hyp) in enumerate(pairs):
        hits, subs, dels, ins = found[f"s_{i:04d}"]
        ours = align_counts(ref.split(), hyp.split())
        # sclite weighs 4/3/3: it may trade a substitution against a deletion and an insertion.
        assert ours.errors <= subs + dels + ins
        worse += ours.errors != subs + dels + ins
        assert hits + subs + dels == ours.units
    assert worse <= 0.05 * len(pairs)
    report = score_files(tmp_path / "ref.trn", tmp_path / "hyp.trn", "ta")
    assert report.raw.words.errors == sum(
        align_counts(r.split(), h.split()).errors for r, h in pairs
    )


def test_graphemes_are_what_a_reader_sees():
    assert graphemes("படித்தான்") == ["ப", "டி", "த்", "தா", "ன்"]
    assert graphemes("ಮನೆಯಲ್ಲಿ") == ["ಮ", "ನೆ", "ಯ", "ಲ್", "ಲಿ"]
    assert graphemes("") == []


def test_a_vowel_sign_counts_once_by_code_point_and_once_by_grapheme():
    found = score_pairs([("கை", "க")], "ta")
    assert (found.letters, found.graphemes) == (Counts(2, 0, 1, 0), Counts(1, 1, 0, 0))


def test_empty_references_have_a_stated_rate():
    assert score_pairs([("", "")], "ta").wer == 0.0
    assert score_pairs([("", "அவன் வந்தான்")], "ta").wer == 2.0
    assert score_pairs([(TA, "")], "ta").words == Counts(4, 0, 4, 0)
    assert score_pairs([], "ta").wer == 0.0


def test_normalising_by_words_is_normalising():
    rng = random.Random(4)
    alphabet = "கிா் \u200cABc1234.,'-_()\u0b94\u0b83ஒள\t" + "ಕಿ್ೕ"
    for _ in range(2000):
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 20)))
        assert normalise_words(text, "ta") == normalise(text, "ta"), ascii(text)


def test_normalised_and_raw_are_both_given():
    report = compare({"a": "அவன், வந்தான்."}, {"a": "அவன் வந்தான்"}, "ta")
    assert report.raw.wer == 1.0
    assert report.normalised.wer == 0.0
    assert report.to_dict()["wer"] == 0.0 and report.to_dict()["raw"]["wer"] == 1.0


def test_missing_and_extra_utterances_are_listed_and_treated_as_asked():
    refs, hyps = {"a": TA, "b": "அவன்"}, {"a": TA, "c": "அவள்"}
    counted = compare(refs, hyps, "ta")
    assert (counted.missing, counted.extra) == (("b",), ("c",))
    assert counted.normalised.words == Counts(5, 0, 1, 0)
    skipped = compare(refs, hyps, "ta", missing="skip")
    assert skipped.normalised.words == Counts(4) and skipped.missing == ("b",)
    with pytest.raises(DataError, match="lacks 1 utterances, first 'b'"):
        compare(refs, hyps, "ta", missing="error")


FILES = {
    "text": f"u1 {TA}\nu2\n",
    "x.trn": f"{TA} (u1)\n(u2)\n",
    "x.tsv": f"u1\t{TA}\nu2\t\n",
    "headed.tsv": f"speaker\tid\ttext\ns\tu1\t{TA}\ns\tu2\t\n",
    "x.json": json.dumps([{"source": "in/u1.wav", "text": TA}, {"id": "u2", "text": ""}]),
    "x.jsonl": json.dumps({"source": "in/u1.wav", "text": TA})
    + '\n{"source": "u2.flac", "text": ""}\n',
    "crlf": f"\ufeffu1 {TA}\r\nu2\r\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_reads_the_same_utterances(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name].encode("utf-8"))
    assert read_texts(path).texts == {"u1": TA, "u2": ""}


def test_a_folder_of_outputs_is_read(tmp_path):
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "u1.json").write_text(json.dumps({"source": "u1.wav", "text": TA}))
    (tmp_path / "txt").mkdir()
    (tmp_path / "txt" / "u1.txt").write_text(TA.replace(" ", "\n"), encoding="utf-8")
    assert read_texts(tmp_path / "json").texts == read_texts(tmp_path / "txt").texts == {"u1": TA}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text", b"u1 a\nu2 b\nu1 c\n", r"text:3: utterance 'u1' stands twice"),
        ("text", "u1 அ\n".encode() + b"u2 \xff\n", r"text:2: not UTF-8"),
        ("text", b"u1 a\nu2 b\0\n", r"text:2: a NUL"),
        ("x.trn", b"a (u1)\nb\n", r"x.trn:2: no utterance id"),
        ("x.tsv", b"u1\ta\nu2\n", r"x.tsv:2: 1 columns"),
        ("x.json", b'{"source": "a.wav"}', r"x.json: want objects"),
        ("x.jsonl", b'{"id": "a", "text": ""}\n{', r"x.jsonl:2: not JSON"),
        ("gone.txt", None, r"gone.txt: No such file"),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path / name)


def test_files_that_cannot_be_matched_are_refused(tmp_path):
    def file(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    two, three = file("2.txt", f"{TA}\n{TA}\n"), file("3.txt", f"{TA}\n{TA}\n{TA}\n")
    with pytest.raises(DataError, match="has 2 lines"):
        score_files(two, three, "ta")
    with pytest.raises(DataError, match="a line an utterance"):
        score_files(two, file("x.trn", f"{TA} (u1)\n"), "ta")
    with pytest.raises(DataError, match="no utterance is in both"):
        score_files(file("a.trn", f"{TA} (u1)\n"), file("b.trn", f"{TA} (v1)\n"), "ta")
    with pytest.raises(DataError, match="script of 'ta', not 'kn'"):
        score_files(two, two, "kn")


def test_the_command_prints_a_table_or_the_documented_json(tmp_path, capsys):
    ref, hyp = tmp_path / "ref.txt", tmp_path / "hyp.txt"
    ref.write_text(f"{TA}\nஅவன்\n", encoding="utf-8")
    hyp.write_text("அவன் நேத்து வீட்டில் படித்தான்\nஅவன் தான்\n", encoding="utf-8")
    assert main(["score", str(ref), str(hyp), "-l", "ta"]) == 0
    table = capsys.readouterr().out
    assert "WER" in table and "0.4000" in table
    assert main(["score", str(ref), str(hyp), "-l", "ta", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["wer"], found["words"], found["hits"]) == (0.4, 5, 4)
    assert (found["substitutions"], found["deletions"], found["insertions"]) == (1, 0, 1)
    assert found["ser"] == 1.0 and found["utterances"] == 2
    documented = (Path(__file__).parents[2] / "decode" / "README.md").read_text(encoding="utf-8")
    for key in {*found, *found["raw"], *found["characters"]}:
        assert f"`{key}`" in documented, key


def test_speed_is_enough_for_100_000_utterances():
    rng = random.Random(3)
    words = ["".join(rng.choices("கஙசஞடணதநபமயரலவழளறன", k=7)) for _ in range(2000)]
    pairs = []
    for _ in range(2000):
        ref = rng.choices(words, k=10)
        hyp = [w if rng.random() > 0.2 else rng.choice(words) for w in ref]
        pairs.append((" ".join(ref), " ".join(hyp)))
    begin = time.process_time()
    score_pairs(pairs, "ta")
    assert time.process_time() - begin < 2.0  # 100,000 would take 50 times as long
