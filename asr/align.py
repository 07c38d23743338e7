"""Forced alignment: when each phone, subword and word of a known text was said.

A text is a chain of words, each with one or more pronunciations; CTC's blanks stand between phones as
they may. `best_path` finds the most probable way through that chain. A network trained with CTC says a
phone in one frame or two and blanks around it, so where one phone ends and the next begins lies
between two such peaks: half way, and no further than `LEAD_S` and `TAIL_S` from the peak where there is a pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uyir.asr.textgrid import textgrid_text
from uyir.errors import DataError, ScriptError
from uyir.grammar.script import decompose, normalise
from uyir.grammar.segment import load_segmenter
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import SPOKEN_NOISE, WORD_END

if TYPE_CHECKING:
    from uyir.asr.audio import Samples
    from uyir.asr.features import Frontend
    from uyir.asr.model import CtcModel

FloatArray = npt.NDArray[np.floating]
BLANK = 0
#: How far a phone reaches from its peak into the blanks before and after it, at most. Set on espeak-ng
#: speech of known times: peaks come late in a phone.
LEAD_S = 0.08
TAIL_S = 0.02
#: A network that hears no more at once hears so much, and of that so much at each inner edge is not used.
WINDOW_S = 28
EDGE_S = 2


def heard(
    model: CtcModel, frontend: Frontend, samples: Samples, language: str, device: str = "cpu"
) -> FloatArray:
    """Log probabilities ``(T, C)`` of a recording ``(S,)`` of any length, a frame every 40 ms.

    What is longer than `WINDOW_S` is heard in windows, as an encoder like Whisper's hears only 30 s.
    """
    rate = frontend.config.sample_rate
    frame = rate // 25
    if len(samples) <= WINDOW_S * rate:
        return _heard_at_once(model, frontend, samples, language, device)
    step, edge = (WINDOW_S - 2 * EDGE_S) * 25, EDGE_S * 25
    parts: list[FloatArray] = []
    first = 0  # frame that the window begins with
    while True:
        part = samples[first * frame : (first + step + 2 * edge) * frame]
        found = _heard_at_once(model, frontend, part, language, device)
        last = (first + step + 2 * edge) * frame >= len(samples)
        parts.append(found[edge if first else 0 : None if last else step + edge])
        if last:
            return np.concatenate(parts)
        first += step


def _heard_at_once(
    model: CtcModel, frontend: Frontend, samples: Samples, language: str, device: str
) -> FloatArray:
    features = frontend.cpu(samples)[None].to(device)
    frames = features.new_tensor([features.shape[1]]).long()
    log_probs, lengths = model.log_probs(features, frames, language)
    found: FloatArray = log_probs[0, : int(lengths[0])].cpu().numpy()
    return found


@dataclass(frozen=True)
class Piece:
    """A phone, subword or word, from `start` to `end` in seconds; `score` is the mean log probability
    of its phones' peaks."""

    text: str
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Alignment:
    """What was said when; `score` is the path's mean log probability a frame."""

    phones: tuple[Piece, ...]
    subwords: tuple[Piece, ...]
    words: tuple[Piece, ...]
    duration: float
    score: float


@dataclass(frozen=True)
class Path:
    """The best path: a variant a word, and for each of its tokens the frames ``[begin, end)``."""

    variants: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    score: float  # log probability


def best_path(log_probs: FloatArray, words: Sequence[Sequence[Sequence[int]]]) -> Path:
    """The most probable CTC path of ``log_probs (T, C)`` through `words`, each a list of
    variants, each a list of tokens. Raises `DataError` if there are too few frames for any.

    Equal tokens that follow each other, across words too, have a blank between them.
    """
    chain = _Chain(words)
    frames = len(log_probs)
    emit = np.asarray(log_probs, dtype=np.float64)[:, chain.tokens]
    score = np.where(chain.first, emit[0], -np.inf) if frames else np.full(len(emit.T), -np.inf)
    back = np.zeros((frames, len(chain.tokens)), dtype=np.int32)
    rows = np.arange(len(chain.tokens))
    for t in range(1, frames):
        # The last state, which no one is in, stands for "no predecessor".
        candidates = np.append(score, -np.inf)[chain.before]
        best = candidates.argmax(axis=1)
        back[t] = chain.before[rows, best]
        score = candidates[rows, best] + emit[t]
    ends = np.where(chain.last, score, -np.inf)
    state = int(ends.argmax())
    if not np.isfinite(ends[state]):
        raise DataError(f"{frames} frames are too few for this text of {len(words)} words")
    total = float(ends[state])
    states = [state]
    for t in range(frames - 1, 0, -1):
        state = int(back[t, state])
        states.append(state)
    states.reverse()
    variants = [0] * len(words)
    runs: list[tuple[int, int]] = []
    previous = -1
    for t, state in enumerate(states):
        if chain.word[state] >= 0:
            variants[chain.word[state]] = chain.variant[state]
            if state == previous:
                runs[-1] = (runs[-1][0], t + 1)
            else:
                runs.append((t, t + 1))
        previous = state
    return Path(tuple(variants), tuple(runs), total)


class _Chain:
    """States of a text: a blank before it, the tokens of each variant of each word with optional
    blanks between them, and an optional blank after each word."""

    def __init__(self, words: Sequence[Sequence[Sequence[int]]]) -> None:
        tokens: list[int] = []
        before: list[list[int]] = []
        self.word: list[int] = []
        self.variant: list[int] = []

        def add(token: int, word: int, variant: int, earlier: Sequence[int]) -> int:
            number = len(tokens)
            tokens.append(token)
            self.word.append(word)
            self.variant.append(variant)
            before.append([number, *earlier])
            return number

        start = add(BLANK, -1, 0, [])
        first = [start]
        ends = [start]  # states from which the next word may begin
        for number, variants in enumerate(words):
            if not variants or not all(variants):
                raise DataError(f"word {number + 1} has no pronunciation")
            opened: list[int] = []
            for which, sequence in enumerate(variants):
                earlier = ends
                for token in sequence:
                    state = add(token, number, which, [e for e in earlier if tokens[e] != token])
                    if earlier is ends and number == 0:
                        first.append(state)
                    blank = add(BLANK, -1, 0, [state])
                    earlier = [state, blank]
                # The blank after the last token is the one after the word.
                opened += earlier
            ends = opened
        self.tokens = np.array(tokens)
        self.first = np.zeros(len(tokens), dtype=bool)
        self.first[first] = True
        self.last = np.zeros(len(tokens), dtype=bool)
        self.last[ends] = True
        width = max(len(row) for row in before)
        none = len(tokens)
        self.before = np.array([row + [none] * (width - len(row)) for row in before])


def align(
    log_probs: FloatArray,
    text: str,
    language: str,
    tokens: Sequence[str],
    seconds: float,
    frame_s: float = 0.04,
) -> Alignment:
    """Align a text with ``log_probs (T, C)`` of a recording of so many `seconds`.

    A word that cannot be pronounced is `SPOKEN_NOISE`. Raises `DataError` for a text without
    words, or too long for the recording.
    """
    ids = {token: number for number, token in enumerate(tokens)}
    words = normalise(text, language).split()
    if not words:
        raise DataError("no words to align")
    spoken = [_variants(word, language) for word in words]
    end = [ids[WORD_END]] if WORD_END in ids else []
    path = best_path(
        log_probs,
        [[[*(ids[phone] for phone in variant), *end] for variant in word] for word in spoken],
    )
    chosen = [variants[which] for variants, which in zip(spoken, path.variants)]
    said = [phone for phones in chosen for phone in phones]
    runs = list(path.runs)
    if end:  # a word's end is heard, but takes no time
        ends = np.cumsum([len(phones) + 1 for phones in chosen]) - 1
        for place in reversed(ends.tolist()):
            del runs[place]
    bounds = _bounds(runs, frame_s, seconds)
    peaks = [
        float(log_probs[begin:end, ids[phone]].max()) for phone, (begin, end) in zip(said, runs)
    ]
    phones = [
        Piece(phone, start, end, peak) for phone, (start, end), peak in zip(said, bounds, peaks)
    ]
    whole: list[Piece] = []
    parts: list[Piece] = []
    position = 0
    for word, sounds in zip(words, chosen):
        here = phones[position : position + len(sounds)]
        position += len(sounds)
        whole.append(_joined(word, here))
        pieces, cuts = cut_phones(word, len(sounds), language)
        parts += [
            _joined(piece, here[begin:end]) for piece, begin, end in zip(pieces, cuts, cuts[1:])
        ]
    return Alignment(
        tuple(phones),
        tuple(parts),
        tuple(whole),
        seconds,
        path.score / max(1, len(log_probs)),
    )


def _variants(word: str, language: str) -> list[tuple[str, ...]]:
    try:
        found = [p.phones for p in load_g2p(language).pronounce(word) if p.phones]
    except (ScriptError, DataError):
        found = []
    return found or [(SPOKEN_NOISE,)]


def cut_phones(word: str, phones: int, language: str) -> tuple[tuple[str, ...], list[int]]:
    """A word's marked subwords and where each one's phones begin, with the end of the last.

    As many phones go to the first subwords as the word's beginning up to the seam has by itself;
    every subword gets one at least, where there are enough.
    """
    try:
        pieces = load_segmenter(language).segment(word).marked
        lengths = [len(decompose(piece.strip("+"), language)) for piece in pieces]
        letters = decompose(word, language)
    except (ScriptError, DataError):
        return (word,), [0, phones]
    if len(pieces) < 2 or phones < len(pieces):
        return (word,), [0, phones]
    cuts = [0]
    for number in range(1, len(pieces)):
        opening = letters[: round(len(letters) * sum(lengths[:number]) / max(1, sum(lengths)))]
        try:
            count = len(load_g2p(language).pronounce_letters(opening, variants=False)[0].phones)
        except (ScriptError, DataError, IndexError):
            count = round(phones * sum(lengths[:number]) / max(1, sum(lengths)))
        cuts.append(min(max(count, cuts[-1] + 1), phones - (len(pieces) - number)))
    return tuple(pieces), [*cuts, phones]


def _bounds(
    runs: Sequence[tuple[int, int]], frame_s: float, seconds: float
) -> list[tuple[float, float]]:
    """Start and end of each phone from its frames."""
    found = []
    for number, (begin, end) in enumerate(runs):
        left = runs[number - 1][1] if number else None
        right = runs[number + 1][0] if number + 1 < len(runs) else None
        before = LEAD_S if left is None else (begin - left) * frame_s / 2
        after = TAIL_S if right is None else (right - end) * frame_s / 2
        start = max(0.0, begin * frame_s - min(before, LEAD_S))
        stop = min(seconds, end * frame_s + min(after, TAIL_S))
        found.append((start, max(stop, min(seconds, start))))
    return found


def _joined(text: str, phones: Sequence[Piece]) -> Piece:
    mean = sum(phone.score for phone in phones) / len(phones)
    return Piece(text, phones[0].start, phones[-1].end, mean)


# -- writing ---------------------------------------------------------------------------------

TIERS = ("phones", "subwords", "words")


def ctm(name: str, alignment: Alignment, tier: str) -> str:
    """NIST's CTM: utterance, channel, start, duration, what, confidence."""
    lines = [
        f"{name} 1 {p.start:.3f} {p.end - p.start:.3f} {p.text} {float(np.exp(p.score)):.3f}"
        for p in getattr(alignment, tier)
    ]
    return "".join(line + "\n" for line in lines)


def textgrid(alignment: Alignment) -> str:
    """Praat's TextGrid, an interval tier each of phones, subwords and words."""
    end = alignment.duration
    return textgrid_text({tier: _tiled(getattr(alignment, tier), end) for tier in TIERS}, end)


def _tiled(pieces: Sequence[Piece], end: float) -> list[tuple[float, float, str]]:
    """Intervals without gaps: what lies between pieces is empty."""
    tiles: list[tuple[float, float, str]] = []
    at = 0.0
    for piece in pieces:
        start, stop = max(at, piece.start), max(at, piece.end)
        if stop - start < 1e-6:
            continue
        if start - at > 1e-4:
            tiles.append((at, start, ""))
        else:
            start = at
        tiles.append((start, stop, piece.text))
        at = stop
    if end - at > 1e-4:
        tiles.append((at, end, ""))
    return tiles
