"""Tolerant rates, kinds of words, groups, intervals and tests of significance."""

from __future__ import annotations

import itertools
import random
import re
import shutil
import subprocess

import numpy as np
import pytest

from uyir.decode.score import Counts, Options, Texts, Utterance, score_texts, to_dict
from uyir.decode.score.groups import group_by
from uyir.decode.score.kinds import Kinds, categories_of
from uyir.decode.score.measure import Meter, as_array
from uyir.decode.score.significance import bootstrap, interval, mapsswe, segments
from uyir.decode.score.systems import compare_reports, latex, markdown
from uyir.decode.score.tolerant import Tolerance
from uyir.errors import DataError
from uyir.grammar.segment import load_segmenter


@pytest.fixture(scope="module")
def tamil():
    return Tolerance("ta", load_segmenter("ta"))


@pytest.fixture(scope="module")
def kannada():
    return Tolerance("kn", load_segmenter("kn"))


def equal(tolerance, ref, hyp):
    counts, groups = tolerance.count(ref.split(), hyp.split())
    return None if counts is None else counts.errors, [group.kind for group in groups]


@pytest.mark.parametrize(
    ("ref", "hyp", "kinds"),
    [
        ("வந்து விட்டான்", "வந்துவிட்டான்", ["spacing"]),
        ("நான் வந்துவிட்டேன் இன்று", "நான் வந்து விட்டேன் இன்று", ["spacing"]),
        # வலிமிகுதல்: a stop is doubled, at the end of the first word or where the two are joined
        ("அந்தப் பையன் வந்தான்", "அந்த பையன் வந்தான்", ["sandhi"]),
        ("அந்த பையன் வந்தான்", "அந்தப் பையன் வந்தான்", ["sandhi"]),
        ("படித்து கொண்டு", "படித்துக் கொண்டு", ["sandhi"]),
        ("படித்து கொண்டு", "படித்துக்கொண்டு", ["sandhi"]),
        ("படித்துக் கொண்டு", "படித்துக்கொண்டு", ["spacing"]),
        ("படித்து கொண்டு இருந்தான்", "படித்துக்கொண்டிருந்தான்", ["sandhi"]),
        # the short u goes before a vowel
        ("வந்து இருந்தான்", "வந்திருந்தான்", ["sandhi"]),
    ],
)
def test_spacing_and_tamil_sandhi_are_no_errors(tamil, ref, hyp, kinds):
    assert equal(tamil, ref, hyp) == (0, kinds)
    assert equal(tamil, hyp, ref) == (0, kinds)


@pytest.mark.parametrize(
    ("ref", "hyp"),
    [
        ("அந்தப் பையன்", "அந்தச் பையன்"),  # another stop than the next word's
        ("அந்த மரம்", "அந்தம் மரம்"),  # no rule doubles a nasal
        ("அந்த பையன்", "அந்தப்"),  # a word is lost
        ("அந்த", "அந்தப்"),  # nothing follows that would link
        ("வந்தான்", "வந்தாள்"),
        ("அவன் வந்தான்", "வந்தான் அவன்"),
    ],
)
def test_what_differs_in_more_stays_an_error(tamil, ref, hyp):
    counts, _ = tamil.count(ref.split(), hyp.split())
    assert counts is None or counts.errors > 0


def test_kannada_seams_are_no_errors(kannada):
    assert equal(kannada, "ಮಾಡಿ ಇದ್ದಾನೆ", "ಮಾಡಿದ್ದಾನೆ")[0] == 0
    assert equal(kannada, "ಮನೆ ಅಲ್ಲಿ", "ಮನೆಯಲ್ಲಿ") == (0, ["sandhi"])
    assert equal(kannada, "ಮನೆಗೆ ಹೋದನು", "ಮನೆಗೆಹೋದನು") == (0, ["spacing"])
    assert equal(kannada, "ಮನೆ ಹೋದನು", "ಮನೆಯಲ್ಲಿ ಹೋದನು")[0] is None


def best_by_brute_force(ref, hyp):
    """Fewest errors where any run of words may equal any run with the same letters."""
    table = {(0, 0): 0}
    for i, j in itertools.product(range(len(ref) + 1), range(len(hyp) + 1)):
        if (i, j) == (0, 0):
            continue
        ways = []
        if i and j:
            ways.append(table[i - 1, j - 1] + (ref[i - 1] != hyp[j - 1]))
        if i:
            ways.append(table[i - 1, j] + 1)
        if j:
            ways.append(table[i, j - 1] + 1)
        for a, b in itertools.product(range(i), range(j)):
            if "".join(ref[a:i]) == "".join(hyp[b:j]):
                ways.append(table[a, b])
        table[i, j] = min(ways)
    return table[len(ref), len(hyp)]


def test_spacing_is_free_wherever_brute_force_finds_it_so():
    rng = random.Random(3)
    tolerance, found_some = Tolerance("ta", None), 0
    for _ in range(1500):
        letters = "".join(rng.choices("கச", k=rng.randint(1, 9)))
        sides = []
        for _ in range(2):
            text = letters if rng.random() < 0.6 else "".join(rng.choices("கச", k=6))
            cut = "".join(c + (" " if rng.random() < 0.5 else "") for c in text)
            sides.append(cut.split())
        ref, hyp = sides
        counts, _ = tolerance.count(ref, hyp)
        _, plain = Meter().count(ref, hyp)
        errors = sum(plain[1:4]) if counts is None else counts.errors
        assert errors == best_by_brute_force(ref, hyp), (ref, hyp)
        if counts is not None:
            found_some += 1
            assert counts.units == len(ref)
        if "".join(ref) == "".join(hyp):
            assert errors == 0
    assert found_some > 300


def texts(name, lines, **metas):
    return Texts(
        name,
        {
            str(n): Utterance(str(n), text, n, {k: v[n] for k, v in metas.items()})
            for n, text in enumerate(lines)
        },
    )


@pytest.fixture(scope="module")
def report():
    refs = texts(
        "ref",
        [
            "அவன் வீட்டில் படித்தான்",
            "அவள் மரத்தை பார்த்தாள்",
            "மூன்று பேர் வந்து விட்டார்கள்",
            "நான் 12 படித்தேன்",
        ],
        speaker=["mani", "mani", "devi", "devi"],
        duration=["1.5", "3", "7.5", "31"],
    )
    hyps = texts(
        "hyp",
        [
            "அவன் வீட்டுக்கு படித்தான்",
            "அவள் கரத்தை பார்த்தாள்",
            "மூன்று பேர் வந்துவிட்டார்கள்",
            "நான் படித்தேன் நன்றாக",
        ],
    )
    vocabulary = frozenset(["அவன்", "அவள்", "நான்", "படித்தான்"])
    return score_texts(refs, hyps, Options("ta", vocabulary=vocabulary))


def test_words_are_counted_by_category(report):
    assert set(report.categories) == {"verbs", "nouns", "pronouns", "numbers", "other"}
    total = sum(report.categories.values(), Counts())
    assert total == report.normalised.words
    assert report.categories["pronouns"] == Counts(3)
    assert report.categories["numbers"].units == 2
    assert report.categories["numbers"].substitutions == 1
    assert report.categories["nouns"].substitutions >= 1


def test_the_wrong_part_of_a_word_is_told(report):
    kinds = Kinds("ta", load_segmenter("ta"))
    assert kinds.position("வீட்டில்", "வீட்டுக்கு") == "affix"
    assert kinds.position("மரத்தை", "கரத்தை") == "root"
    assert kinds.position("மரத்தை", "மரம்") == "affix"  # another stem of the same root
    assert kinds.position("வீட்டில்", "படித்தான்") == "both"
    assert kinds.position("நான்", "நீ") == "no affix"
    assert kinds.position("12", "13") == "no word"
    assert report.positions["affix"] == 1 and report.positions["root"] >= 1
    assert sum(report.positions.values()) == report.normalised.words.substitutions
    (ref, hyp), count = report.affixes.most_common(1)[0]
    assert count == 1 and "LOC" in ref and "DAT" in hyp


def test_rates_in_and_out_of_a_vocabulary(report):
    known, unknown = report.vocabulary["in vocabulary"], report.vocabulary["out of vocabulary"]
    assert known == Counts(4)
    assert known + unknown == report.normalised.words
    assert unknown.errors == report.normalised.words.errors


def test_what_is_taken_as_equal_is_listed(report):
    ((item, count),) = report.equal.items()
    assert (item.kind, item.ref, item.hyp) == ("spacing", "வந்து விட்டார்கள்", "வந்துவிட்டார்கள்")
    assert count == 1
    assert report.normalised.tolerant.errors == report.normalised.words.errors - 2


def test_tables_by_speaker_and_duration_add_up(report):
    for groups in report.groups.values():
        assert sum((group.score.words for group in groups), Counts()) == report.normalised.words
    assert [group.name for group in report.groups["speaker"]] == ["devi", "mani"]
    names = [group.name for group in report.groups["duration"]]
    assert names == ["up to 2 s", "2–5 s", "5–10 s", "over 30 s"]
    assert report.drawn == ("speaker", 2)


def test_columns_of_many_numbers_are_cut_at_quintiles():
    counts = as_array([[1, n % 2, 0, 0] * 4 for n in range(50)])
    groups = group_by("noise", [{"noise": str(n / 10)} for n in range(49)] + [{}], counts)
    assert [group.score.utterances for group in groups] == [10, 10, 9, 10, 10, 1]
    assert groups[-1].name == "(unknown)"
    few = group_by("age", [{"age": str(n % 3 + 9)} for n in range(50)], counts)
    assert [group.name for group in few] == ["9", "10", "11"]


def test_a_column_that_is_not_there_is_refused():
    refs = texts("ref", ["அவன்"], speaker=["mani"])
    with pytest.raises(DataError, match="'accent' to group by; there are speaker"):
        score_texts(refs, refs, Options("ta", grammar=False, by=("accent",)))


def test_speakers_can_be_found_in_ids():
    refs = Texts("ref", {f"{s}_{n}": Utterance(f"{s}_{n}", "அவன்") for s in "ab" for n in range(2)})
    found = score_texts(refs, refs, Options("ta", grammar=False, speaker_pattern="^(.)_"))
    assert [(g.name, g.score.utterances) for g in found.groups["speaker"]] == [("a", 2), ("b", 2)]


def test_categories_are_those_of_the_lists():
    assert categories_of("kn")[-1] == "other"
    with pytest.raises(DataError, match="unknown language"):
        categories_of("xx")


# --------------------------------------------------------------------------------------------------


def test_the_bootstrap_draws_what_a_plain_one_draws():
    rng = np.random.default_rng(0)
    units = rng.integers(5, 50, size=40)
    errors = rng.binomial(units, 0.2)
    fast = bootstrap(np.stack([errors, units], axis=1), draws=20000)
    picks = rng.integers(0, 40, size=(20000, 40))
    slow = errors[picks].sum(axis=1) / units[picks].sum(axis=1)
    rates = fast[:, 0] / fast[:, 1]
    assert rates.mean() == pytest.approx(slow.mean(), abs=0.002)
    for q in (2.5, 97.5):
        assert np.percentile(rates, q) == pytest.approx(np.percentile(slow, q), abs=0.005)
    found = interval(errors, units, draws=2000)
    assert found.low < errors.sum() / units.sum() < found.high
    assert interval(errors[:1], units[:1]) is None and interval(errors, units, draws=0) is None


def test_the_interval_covers_the_true_rate_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        speakers = np.clip(rng.normal(0.2, 0.05, size=40), 0, 1)
        units = np.full(40, 100)
        found = interval(rng.binomial(units, speakers), units, draws=300)
        covered += found.low <= 0.2 <= found.high
    assert 0.89 <= covered / 300 <= 0.985


def test_segments_are_apart_where_both_have_two_words_right():
    # errors of the first at words 1 and 5, of the second at 1 and 8
    assert segments(10, [(1, 1), (5, 5)], [(1, None), (8, 7)]) == [(1, 1), (1, 0), (0, 1)]
    # one right word between them is not enough
    assert segments(5, [(1, 1), (3, 3)], []) == [(2, 0)]
    # something inserted between two right words is no buffer
    assert segments(6, [(0, 0), (None, 2), (3, 4)], []) == [(3, 0)]
    assert segments(4, [], []) == []


def test_equal_systems_are_not_told_apart():
    assert mapsswe([(1, 1)] * 20).p == 1.0
    assert mapsswe([]).p == 1.0
    assert mapsswe([(1, 0)] * 20).p == 0.0
    found = mapsswe([(2, 0), (1, 0), (1, 1), (0, 1), (3, 1)])
    assert (found.segments, found.mean) == (5, 0.8)
    differences = np.array([2, 1, 0, -1, 2])
    z = differences.mean() / (differences.std(ddof=1) / np.sqrt(5))
    assert found.z == pytest.approx(z)


def two_systems(count=300, seed=0):
    rng = random.Random(seed)
    words = [a + b for a in "கசதபம" for b in "ாிுே"]
    refs, firsts, seconds = [], [], []
    for _ in range(count):
        ref = rng.choices(words, k=12)
        refs.append(" ".join(ref))
        for out, rate in ((firsts, 0.25), (seconds, 0.15)):
            out.append(" ".join(w if rng.random() > rate else rng.choice(words) for w in ref))
    return refs, firsts, seconds


@pytest.mark.skipif(shutil.which("sctk") is None, reason="sctk is not installed (Debian: sctk)")
def test_matched_pairs_are_those_of_sc_stats(tmp_path):
    refs, firsts, seconds = two_systems()
    for name, lines in (("ref", refs), ("one", firsts), ("two", seconds)):
        text = "".join(f"{line} (s_{n:04d})\n" for n, line in enumerate(lines))
        (tmp_path / f"{name}.trn").write_text(text, encoding="utf-8")
    subprocess.run(
        "sctk sclite -e utf-8 -s -r ref.trn trn -h one.trn trn -h two.trn trn -i spu_id "
        "-o sgml stdout -f 0 > both.sgml && sctk sc_stats -p -t mapsswe -v -n out < both.sgml",
        shell=True,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    said = "".join(
        path.read_text(encoding="utf-8", errors="replace") for path in tmp_path.glob("out*")
    )
    count = re.search(r"Number of Segments (\d+)", said)
    z = re.search(r"Z[ -]?[Ss]tat\w*\D*?(-?\d+\.\d+)", said)
    errors = re.search(r"Totals\s+\d+\s+(\d+)\s+(\d+)", said)
    assert count and z and errors, said
    options = Options("ta", grammar=False, costs="sclite", draws=0)
    reports = [
        score_texts(texts("ref", refs), texts("hyp", lines), options) for lines in (firsts, seconds)
    ]
    ours = compare_reports(("one", "two"), reports).contrasts[0].matched
    counted = [str(report.normalised.words.errors) for report in reports]
    assert counted == [errors[1], errors[2]]
    # Where alignments tie the two may cut once more or once less.
    assert ours.segments == pytest.approx(int(count[1]), rel=0.005)
    assert abs(ours.z) == pytest.approx(abs(float(z[1])), rel=0.002)


def test_two_systems_are_compared_with_a_list_of_where_they_differ():
    refs, firsts, seconds = two_systems()
    options = Options("ta", grammar=False)
    reports = [
        score_texts(texts("ref", refs), texts(name, lines), options)
        for name, lines in (("one", firsts), ("two", seconds), ("same", firsts))
    ]
    found = compare_reports(("a_1", "b&2", "same"), reports)
    better, same = found.contrasts
    assert better.matched.p < 1e-6 and better.matched.z > 0 and better.better == 1.0
    assert same.matched.p == 1.0 and same.better == 0.0
    assert found.differences and all(d.system == "b&2" for d in found.differences)
    gap = [abs(d.errors_first - d.errors) for d in found.differences]
    assert gap == sorted(gap, reverse=True) and gap[-1] >= 1
    first = found.differences[0]
    assert first.first.count("->") == first.errors_first

    table = markdown(found).splitlines()
    assert len(table[0].split("|")) == len(table[1].split("|")) == len(table[3].split("|")) == 12
    assert table[2].startswith("| a\\_1 |") and "**" in table[3] and "< 0.001" in table[3]
    paper = latex(found)
    assert r"a\_1 &" in paper and r"b\&2 &" in paper and r"\textbf{" in paper
    assert paper.count(r"\\") == 4 and "$<$ 0.001" in paper


def test_systems_of_other_utterances_are_refused():
    options = Options("ta", grammar=False, missing="skip")
    refs = texts("ref", ["அவன்", "அவள்"])
    short = Texts("hyp", {"0": Utterance("0", "அவன்")})
    reports = [score_texts(refs, refs, options), score_texts(refs, short, options)]
    with pytest.raises(DataError, match="not of the same utterances"):
        compare_reports(("a", "b"), reports)


def test_everything_is_in_the_json(report):
    found = to_dict(report)
    assert found["wer"] == round(report.normalised.wer, 6)
    assert found["by"]["speaker"]["mani"]["words"] == 6
    assert found["categories"]["verbs"]["units"] == report.categories["verbs"].units
    assert found["confusions"]["substitutions"][0]["count"] == 1
    assert found["equal"][0]["kind"] == "spacing"
    assert found["wer_interval"][0] <= found["wer"] <= found["wer_interval"][1]
