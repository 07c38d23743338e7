"""Forced alignment against brute force over every path, and what is made of a path."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest

from uyir.asr.align import align, best_path, ctm, cut_phones, textgrid
from uyir.asr.features import FrontendConfig
from uyir.errors import DataError
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import tokens_table

TOKENS = list(tokens_table())


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token)


def brute_force(log_probs: np.ndarray, words: list[list[list[int]]]) -> float:
    """The best of all token sequences a frame that collapse to one of the texts."""
    texts = {tuple(itertools.chain(*choice)) for choice in itertools.product(*words)}
    frames, classes = log_probs.shape
    return max(
        (
            float(log_probs[np.arange(frames), list(path)].sum())
            for path in itertools.product(range(classes), repeat=frames)
            if collapse(path) in texts
        ),
        default=-np.inf,
    )


def noise(frames: int, classes: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, classes)) * 2
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(12))
def test_the_best_path_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    log_probs = noise(7, 4, seed)
    words = [
        [rng.integers(1, 4, size=rng.integers(1, 3)).tolist() for _ in range(rng.integers(1, 3))]
        for _ in range(rng.integers(1, 4))
    ]
    wanted = brute_force(log_probs, words)
    if not np.isfinite(wanted):
        with pytest.raises(DataError, match="too few"):
            best_path(log_probs, words)
        return
    found = best_path(log_probs, words)
    assert found.score == pytest.approx(wanted)
    # The runs are a path of that score: blanks elsewhere.
    chosen = [token for word, which in zip(words, found.variants) for token in word[which]]
    frames = [0] * len(log_probs)
    for token, (begin, end) in zip(chosen, found.runs):
        assert begin < end
        frames[begin:end] = [token] * (end - begin)
    assert collapse(tuple(frames)) == tuple(chosen)
    assert log_probs[np.arange(len(frames)), frames].sum() == pytest.approx(wanted)


def test_a_variant_that_was_said_is_chosen() -> None:
    log_probs = np.log(np.full((6, 4), 0.02))
    for frame, token in enumerate([0, 2, 0, 3, 3, 0]):
        log_probs[frame, token] = np.log(0.94)
    found = best_path(log_probs, [[[1, 3], [2]], [[3], [1]]])
    assert found.variants == (1, 0)
    assert found.runs == ((1, 2), (3, 5))


def test_too_few_frames_and_no_pronunciation() -> None:
    with pytest.raises(DataError, match="2 frames are too few"):
        best_path(noise(2, 3, 0), [[[1, 1]]])
    with pytest.raises(DataError, match="0 frames"):
        best_path(np.zeros((0, 3)), [[[1]]])
    with pytest.raises(DataError, match="word 2 has no pronunciation"):
        best_path(noise(9, 3, 0), [[[1]], []])


def said(words: list[str], language: str, gap: int = 2) -> tuple[np.ndarray, list[int]]:
    """Log probabilities of a text said with a frame a phone and `gap` blanks between."""
    frames: list[str] = ["<blk>"] * 5
    begins = []
    for word in words:
        begins.append(len(frames))
        for phone in load_g2p(language).pronounce(word, variants=False)[0].phones:
            frames += [phone] + ["<blk>"] * gap
        frames += ["<blk>"] * 10
    log_probs = np.log(np.full((len(frames), len(TOKENS)), 1e-4))
    for number, token in enumerate(frames):
        log_probs[number, TOKENS.index(token)] = np.log(0.99)
    return log_probs, begins


@pytest.mark.parametrize(
    ("language", "words"), [("ta", ["வீட்டில்", "இருக்கிறான்"]), ("kn", ["ಮನೆಯಲ್ಲಿ", "ಇದ್ದಾನೆ"])]
)
def test_words_subwords_and_phones(language: str, words: list[str]) -> None:
    log_probs, begins = said(words, language)
    seconds = 0.04 * len(log_probs)
    found = align(log_probs, " ".join(words), language, TOKENS, seconds)
    assert [piece.text for piece in found.words] == words
    for piece, begin in zip(found.words, begins):
        assert piece.start == pytest.approx(0.04 * begin, abs=0.0801)
        assert piece.score > np.log(0.98)
    for tier in (found.phones, found.subwords, found.words):
        for one, two in zip(tier, tier[1:]):
            assert one.start < one.end <= two.start + 1e-9
        assert tier[-1].end <= seconds
    # Subwords tile their words.
    assert len(found.subwords) > len(words)
    starts = {round(p.start, 6) for p in found.subwords}
    assert {round(w.start, 6) for w in found.words} <= starts
    assert {round(p.start, 6) for p in found.subwords} <= {round(p.start, 6) for p in found.phones}
    # The pause between the words belongs to neither.
    assert found.words[1].start - found.words[0].end > 0.2


def test_subwords_get_the_phones_up_to_their_seam() -> None:
    pieces, cuts = cut_phones("வீட்டில்", 6, "ta")
    assert len(pieces) == len(cuts) - 1 >= 2
    assert cuts[0] == 0 and cuts[-1] == 6
    assert all(one < two for one, two in zip(cuts, cuts[1:]))
    assert cut_phones("hello", 1, "ta") == (("hello",), [0, 1])


def test_an_unknown_word_is_noise_and_no_words_are_refused() -> None:
    log_probs, _ = said(["ಮನೆ"], "kn", 3)
    log_probs[2, 1] = 0.0
    found = align(log_probs, "hello ಮನೆ", "kn", TOKENS, 0.04 * len(log_probs))
    assert found.phones[0].text == "<spn>"
    assert found.words[0].text == "hello"
    with pytest.raises(DataError, match="no words"):
        align(log_probs, " ... ", "kn", TOKENS, 1.0)


def test_written_forms() -> None:
    log_probs, _ = said(["ಮನೆ", "ಊರು"], "kn")
    found = align(log_probs, "ಮನೆ ಊರು", "kn", TOKENS, 0.04 * len(log_probs))
    lines = ctm("u1", found, "words").splitlines()
    assert [line.split()[:2] + line.split()[4:5] for line in lines] == [
        ["u1", "1", "ಮನೆ"],
        ["u1", "1", "ಊರು"],
    ]
    grid = textgrid(found)
    assert re.findall(r'name = "(\w+)"', grid) == ["phones", "subwords", "words"]
    for tier in grid.split("    item [")[2:]:
        edges = re.findall(r"            xmin = ([\d.]+)\n            xmax = ([\d.]+)", tier)
        assert float(edges[0][0]) == 0.0
        assert float(edges[-1][1]) == pytest.approx(found.duration, abs=1e-3)
        assert all(one[1] == two[0] for one, two in zip(edges, edges[1:]))


def test_a_long_recording_is_heard_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a minute are those of the window whose inside they lie in, each once."""
    from uyir.asr import align as module

    calls: list[int] = []

    def once(model: object, frontend: object, samples: np.ndarray, *_: object) -> np.ndarray:
        calls.append(len(samples))
        frames = samples[::640].astype(np.float64)
        return np.stack([frames, np.full(len(frames), float(len(calls)))], axis=1)

    monkeypatch.setattr(module, "_heard_at_once", once)
    frontend = SimpleNamespace(config=FrontendConfig())
    for seconds in (5, 28, 29, 60, 75.5):
        calls.clear()
        samples = np.arange(round(16000 * seconds), dtype=np.float32)
        found = module.heard(None, frontend, samples, "kn")  # type: ignore[arg-type]
        assert (found[:, 0] == samples[::640]).all()
        assert max(calls) <= 28 * 16000
        # No frame but the first and last ones lies within 2 s of its window's edge.
        for number, start in enumerate(range(len(calls)), start=1):
            used = np.flatnonzero(found[:, 1] == number) - start * 24 * 25
            assert used.min() >= (50 if start else 0)
            assert number == len(calls) or used.max() < 26 * 25
