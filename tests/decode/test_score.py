"""Alignment, counts and rates: jiwer, sclite and the textbook say the same."""

from __future__ import annotations

import random
import re
import shutil
import subprocess

import pytest

from uyir.decode.score import Counts, align_counts, graphemes, normalise_words, score_pairs
from uyir.decode.score.align import align_errors
from uyir.decode.score.measure import Meter, runs
from uyir.errors import DataError
from uyir.grammar.script import normalise

TA = "அவன் நேற்று வீட்டில் படித்தான்"
KN = "ಅವನು ನಿನ್ನೆ ಮನೆಯಲ್ಲಿ ಓದಿದನು"


def random_pairs(count, seed=0, alphabet="கசடதபಕಚ", length=12, least=0):
    rng = random.Random(seed)
    words = ["".join(rng.choices(alphabet, k=rng.randint(1, 3))) for _ in range(12)]

    def text():
        return " ".join(rng.choices(words, k=rng.randint(least, length)))

    return [(text(), text()) for _ in range(count)]


def hand_made():
    """200 pairs of the kinds that go wrong: empty, repeated, look-alike, and edits of two sentences."""
    cases = [("", ""), ("", TA), (TA, ""), ("அ", "ஆ"), ("கை", "க")]
    # The same word again and again, more or fewer times.
    cases += [(" ".join(["அ"] * n), " ".join(["அ"] * m)) for n in range(1, 6) for m in range(6)]
    # Look-alikes: ஔ and ஒள, ா் and ர், a composed vowel sign and its parts, digits, letters of Latin.
    alike = [
        ("ஔவை", "ஒளவை"),
        ("அவர்", "அவா்"),
        ("கொடு", "க\u0bc6\u0bbeடு"),
        ("ಸಂ", "ಸ೦"),
        ("௧", "1"),
        ("ಮೊ", "ಮ\u0cc6\u0cc2"),
        ("A", "Α"),
        ("க\u200d", "க"),
        ("ஶ்ரீ", "ஸ்ரீ"),
        ("೧೨", "12"),
    ]
    cases += [(a, b) for pair in alike for a, b in (pair, pair[::-1])]
    cases += [(f"{TA} {a}", f"{b} {TA}") for a, b in alike]
    # Words lost, added, doubled, exchanged, joined and split at every place.
    for text in (TA, KN):
        words = text.split()
        for n in range(len(words)):
            rest = words[:n] + words[n + 1 :]
            cases.append((text, " ".join(rest)))
            cases.append((" ".join(rest), text))
            cases.append((text, " ".join([*words[: n + 1], words[n], *words[n + 1 :]])))
            cases.append((text, " ".join([*words[:n], "வேறு", *words[n + 1 :]])))
            cases.append((text, " ".join([*rest, words[n]])))
            cases.append((text, " ".join([*words[:n], "".join(words[n : n + 2]), *words[n + 2 :]])))
            half = len(words[n]) // 2
            cases.append(
                (text, " ".join([*words[:n], words[n][:half], words[n][half:], *words[n + 1 :]]))
            )
            cases.append((text, " ".join(words[n:] + words[:n])))
    rng = random.Random(7)
    while len(cases) < 200:
        text = rng.choice((TA, KN))
        at = rng.randrange(len(text))
        cases.append((text, text[:at] + rng.choice("க ಕ") + text[at + rng.randrange(2) :]))
    return [(" ".join(a.split()), " ".join(b.split())) for a, b in cases[:200]]


def by_hand(ref, hyp):
    """Levenshtein distance by the textbook."""
    row = list(range(len(hyp) + 1))
    for i, a in enumerate(ref, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(hyp, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


@pytest.mark.parametrize("pairs", [random_pairs(1000), hand_made()], ids=["random", "hand made"])
def test_counts_and_rates_are_jiwers(pairs):
    jiwer = pytest.importorskip("jiwer")
    assert len(pairs) in (1000, 200)
    for ref, hyp in pairs:
        ours = score_pairs([(ref, hyp)], "ta", normalised=False)
        if not ref:  # jiwer refuses an empty reference alone
            assert ours.words == Counts(0, 0, 0, len(hyp.split()))
            continue
        theirs = jiwer.process_words(ref, hyp)
        assert (ours.words.hits, ours.words.substitutions) == (theirs.hits, theirs.substitutions)
        assert (ours.words.deletions, ours.words.insertions) == (
            theirs.deletions,
            theirs.insertions,
        )
        assert ours.wer == pytest.approx(theirs.wer)
        assert ours.words.mer == pytest.approx(theirs.mer)
        assert ours.words.wil == pytest.approx(theirs.wil)
        letters = jiwer.process_characters(ref, hyp)
        assert ours.cer == pytest.approx(letters.cer)
        assert ours.letters.substitutions == letters.substitutions
    told = [pair for pair in pairs if pair[0]]
    refs, hyps = map(list, zip(*told))
    together = score_pairs(told, "ta", normalised=False)
    assert together.wer == pytest.approx(jiwer.wer(refs, hyps))
    assert together.cer == pytest.approx(jiwer.cer(refs, hyps))


def sclite_program():
    if shutil.which("sclite"):
        return ["sclite"]
    if shutil.which("sctk"):
        return ["sctk", "sclite"]
    return None


needs_sclite = pytest.mark.skipif(
    sclite_program() is None, reason="sclite is not installed (Debian: sctk)"
)


def sclite_counts(pairs, folder):
    for name, side in (("ref", 0), ("hyp", 1)):
        lines = [f"{pair[side]} (s_{i:04d})\n" for i, pair in enumerate(pairs)]
        (folder / f"{name}.trn").write_text("".join(lines), encoding="utf-8")
    command = [
        "-e",
        "utf-8",
        "-s",
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
    ]
    out = subprocess.run(
        [*sclite_program(), *command], cwd=folder, capture_output=True, check=True
    ).stdout.decode("utf-8", "replace")
    found = re.findall(r"id: \((\S+)\)\s+Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", out)
    return {name: tuple(map(int, counts)) for name, *counts in found}


@needs_sclite
@pytest.mark.parametrize("pairs", [random_pairs(1000), hand_made()], ids=["random", "hand made"])
def test_counts_with_sclites_costs_are_sclites(tmp_path, pairs):
    found = sclite_counts(pairs, tmp_path)
    assert len(found) == len(pairs)
    unit = ties = 0
    for i, (ref, hyp) in enumerate(pairs):
        hits, substitutions, deletions, insertions = found[f"s_{i:04d}"]
        ours = align_counts(ref.split(), hyp.split(), "sclite")
        theirs = Counts(hits + substitutions + deletions, substitutions, deletions, insertions)
        assert ours.units == theirs.units
        # sclite weighs 4, 3, 3; equal cost and equal total is equal in every count.
        cost, other = (3 * c.errors + c.substitutions for c in (ours, theirs))
        assert cost == other, (ref, hyp)
        assert ours.errors <= theirs.errors
        ties += ours != theirs
        unit += align_counts(ref.split(), hyp.split()) != ours
    assert ties <= 0.01 * len(pairs), ties
    assert unit or len(pairs) < 1000  # the costs do make a difference


def test_alignments_at_either_cost_are_best_and_add_up():
    for ref, hyp in random_pairs(300, seed=1) + hand_made():
        a, b = ref.split(), hyp.split()
        counts = align_counts(a, b)
        assert counts.errors == by_hand(a, b)
        for found in (counts, align_counts(a, b, "sclite")):
            assert found.units == len(a) == found.hits + found.substitutions + found.deletions
            assert len(b) == found.hyp_units
            assert min(found.hits, found.substitutions, found.deletions, found.insertions) >= 0
        cheap = align_counts(a, b, "sclite")
        assert 3 * cheap.errors + cheap.substitutions <= 3 * counts.errors + counts.substitutions


def test_an_alignment_leaves_hits_where_they_are():
    for costs in ("unit", "sclite"):
        for ref, hyp in random_pairs(200, seed=5):
            numbers = {w: n for n, w in enumerate(sorted({*ref.split(), *hyp.split()}))}
            a, b = ([numbers[w] for w in text.split()] for text in (ref, hyp))
            steps = align_errors(a, b, costs)
            left = [x for i, x in enumerate(a) if i not in {i for i, _ in steps}]
            right = [x for j, x in enumerate(b) if j not in {j for _, j in steps}]
            assert left == right


def test_words_that_look_alike_stand_beside_each_other():
    meter = Meter()
    row, counts = meter.count(["அவன்", "வீட்டில்", "படித்தான்"], ["அவன்", "படித்தாள்"])
    assert counts[:4] == [3, 1, 1, 0]
    assert row.steps == ((1, None), (2, 1))
    row, _ = meter.count(["அவன்", "படித்தாள்"], ["அவன்", "வீட்டில்", "படித்தான்"])
    assert row.steps == ((None, 1), (1, 2))


def test_runs_are_stretches_without_a_hit():
    assert runs([(0, 0), (1, None), (3, 2), (None, 3), (6, 6)]) == [(0, 2), (2, 4), (4, 5)]
    assert runs([(None, 0), (None, 1), (0, 2), (2, 4)]) == [(0, 3), (3, 4)]


def test_graphemes_are_what_a_reader_sees():
    assert graphemes("படித்தான்") == ["ப", "டி", "த்", "தா", "ன்"]
    assert graphemes("ಮನೆಯಲ್ಲಿ") == ["ಮ", "ನೆ", "ಯ", "ಲ್", "ಲಿ"]
    assert graphemes("") == []


def test_a_vowel_sign_counts_once_by_code_point_and_once_by_grapheme():
    found = score_pairs([("கை", "க")], "ta")
    assert (found.letters, found.graphemes) == (Counts(2, 0, 1, 0), Counts(1, 1, 0, 0))


def test_graphemes_align_as_lists_of_them_do():
    for ref, hyp in random_pairs(100, seed=9, alphabet="கிா்ಕಿ"):
        ours = score_pairs([(ref, hyp)], "ta", normalised=False).graphemes
        assert ours.errors == by_hand(graphemes(ref), graphemes(hyp))
        assert ours.units == len(graphemes(ref))


def test_empty_references_have_a_stated_rate():
    assert score_pairs([("", "")], "ta").wer == 0.0
    assert score_pairs([("", "அவன் வந்தான்")], "ta").wer == 2.0
    assert score_pairs([("", "அவன்")], "ta").words.wil == 1.0
    assert score_pairs([(TA, "")], "ta").words == Counts(4, 0, 4, 0)
    assert score_pairs([], "ta").wer == 0.0 and score_pairs([], "ta").words.mer == 0.0


def test_costs_that_are_none_are_refused():
    with pytest.raises(DataError, match="costs are unit or sclite"):
        score_pairs([("அ", "அ")], "ta", costs="free")


def test_normalising_by_words_is_normalising():
    rng = random.Random(4)
    alphabet = "கிா் \u200cABc1234.,'-_()\u0b94\u0b83ஒள\t" + "ಕಿ್ೕ"
    for _ in range(2000):
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 20)))
        assert normalise_words(text, "ta") == normalise(text, "ta"), ascii(text)
