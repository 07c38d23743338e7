"""Models that hear where words end: the token ``|`` in training, graphs, alignment, times and added words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uyir.asr.align import align
from uyir.asr.data import read_manifest
from uyir.asr.prepare import phones_of, with_word_ends
from uyir.decode.hypothesis import Hypothesis, Run, Runs
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import WORD_END, tokens_table

NAMES = list(tokens_table(word_ends=True))
IDS = {name: number for number, name in enumerate(NAMES)}
END = IDS[WORD_END]


def test_the_end_of_a_word_is_the_last_token() -> None:
    assert NAMES[:-1] == list(tokens_table())
    assert NAMES[-1] == WORD_END


@pytest.mark.parametrize(
    "text, language, words",
    [
        ("மழை பெய்தது நேற்று", "ta", ["m a zx ai", "p e y d a d eu", "n ee tq rx eu"]),
        ("<noise> ಮಳೆ ಬಂತು [laugh]", "kn", ["<spn> m a lx e", "b a n t u", "<spn>"]),
        ("xx ಮಳೆ", "kn", ["<spn>", "m a lx e"]),
    ],
)
def test_phones_with_the_ends_of_words(text: str, language: str, words: list[str]) -> None:
    normalised, phones = phones_of(text, language)
    marked = " ".join(with_word_ends(phones, normalised, language))
    assert [part.strip() for part in marked.split(WORD_END) if part.strip()] == words
    assert marked.endswith("|") == (not text.endswith("]"))


def test_one_noise_stands_for_two_words_without_phones() -> None:
    normalised, phones = phones_of("xx yy ಮಳೆ", "kn")
    assert with_word_ends(phones, normalised, "kn") == ["<spn>", "|", "m", "a", "lx", "e", "|"]


def test_phones_that_are_not_the_text_s_keep_their_order() -> None:
    assert with_word_ends(["k", "a"], "மழை பெய்தது", "ta") == ["k", "a", WORD_END]


def test_manifests_are_read_for_both_kinds_of_token_table(tmp_path: Path) -> None:
    _, phones = phones_of("மழை பெய்தது", "ta")
    own = "m a zx ai p e y d a d eu |"  # its writer says where words end
    rows = ["id\taudio\tduration\tlanguage\ttext\tphones"]
    rows += [
        f"a\ta.wav\t2.0\tta\tமழை பெய்தது\t{' '.join(phones)}",
        f"b\tb.wav\t2.0\tta\tமழை பெய்தது\t{own}",
    ]
    path = tmp_path / "manifest.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    heard = read_manifest(path, NAMES)
    assert [utterance.tokens.count(END) for utterance in heard] == [2, 1]
    plain = read_manifest(path, list(tokens_table()))
    assert [utterance.tokens for utterance in plain] == [tuple(IDS[phone] for phone in phones)] * 2


def spoken(words: list[str], language: str, pause: int) -> tuple[list[Run], list[tuple[int, int]]]:
    """Runs of one frame a token, one blank between, ``pause`` frames of blank before each word's end; and where
    each word's phones begin and end."""
    runs, places, frame = [], [], 0
    for word in words:
        phones = load_g2p(language).pronounce(word, variants=False)[0].phones
        for phone in phones:
            runs.append(Run(IDS[phone], frame, frame + 1))
            frame += 2
        places.append((runs[-len(phones)].begin, runs[-1].end))
        frame += pause
        runs.append(Run(END, frame, frame + 1))
        frame += 2
    return runs, places


def test_a_word_s_end_takes_no_time() -> None:
    runs, places = spoken(["மழை", "பெய்தது"], "ta", pause=10)
    starts = [first for first, _ in places]
    after = [*starts[1:], 1000]
    ends = tuple(max(run.end for run in runs if run.begin < limit) for limit in after)
    best = Hypothesis(
        (1, 2), tuple(starts), -1.0, -1.0, 0.0, 1.0, True, ends, (1.0, 1.0), Runs(*zip(*runs))
    )
    assert ends != tuple(end for _, end in places)
    found = best.without(END)
    assert found.ends == tuple(end for _, end in places)
    assert END not in [run.token for run in found.runs]
    assert found.without(END) is found


def test_alignment_hears_the_ends_and_leaves_them_out() -> None:
    words = ["மழை", "பெய்தது"]
    runs, places = spoken(words, "ta", pause=5)
    log_probs = np.full((runs[-1].end + 3, len(NAMES)), -12.0, dtype=np.float32)
    log_probs[:, 0] = -0.1
    for run in runs:
        log_probs[run.begin, 0] = -9.0
        log_probs[run.begin, run.token] = -0.1
    frames = len(log_probs)
    found = align(log_probs, " ".join(words), "ta", NAMES, frames * 0.04)
    assert WORD_END not in [piece.text for piece in found.phones]
    assert len(found.phones) == len(runs) - len(words)
    for word, (begin, end) in zip(found.words, places):
        assert word.start == pytest.approx(begin * 0.04, abs=0.09)
        assert word.end == pytest.approx(end * 0.04, abs=0.09)
