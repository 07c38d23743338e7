"""Words are parted where a speaker pauses, and only where both parts can be words."""

from __future__ import annotations

from typing import cast

import pytest

from uyir.decode.engines import Engine
from uyir.decode.hypothesis import Hypothesis, Run
from uyir.decode.pauses import Stretch
from uyir.decode.spoken import PAUSE_S, SpokenLanguage
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import tokens_table

TABLE = ("<eps>", "ಮಧ್ಯ+", "+ಪೂರ್ವ", "ಮಧ್ಯ", "ಪೂರ್ವ", "+ಪೂರ್ವ+", "ಪೂರ್ವ+", "+ದಲ್ಲಿ", "ಮನೆ+", "ಮನೆ", "+ಯಲ್ಲಿ")
FRAME_S = 0.04


def spoken() -> SpokenLanguage:
    tokens = {name: number for number, name in enumerate(tokens_table())}
    engine = cast(Engine, None)  # nothing is searched here
    return SpokenLanguage("kn", engine, TABLE, tokens, FRAME_S, None, {})


def hypothesis(pieces: list[str], word: str, pause_before: int, pause_s: float) -> Hypothesis:
    """One word, a phone every two frames, but for a pause before one of them."""
    names = list(tokens_table())
    runs, frame = [], 0
    for place, phone in enumerate(load_g2p("kn").pronounce(word)[0].phones):
        frame += round(pause_s / FRAME_S) if place == pause_before else 1
        runs.append(Run(names.index(phone), frame, frame + 1))
        frame += 1
    ends = [run.end for run in runs]
    count = len(pieces)
    step = len(runs) // count
    times = tuple(runs[step * n].begin for n in range(count))
    subwords = tuple(TABLE.index(piece) for piece in pieces)
    last = (*(ends[step * (n + 1) - 1] for n in range(count - 1)), ends[-1])
    return Hypothesis(
        subwords, times, -1.0, -1.0, 0.0, 1.0, True, last, (1.0,) * count, tuple(runs)
    )


@pytest.mark.parametrize(
    "pieces, word, pause_before, pause_s, wanted",
    [
        (["ಮಧ್ಯ+", "+ಪೂರ್ವ"], "ಮಧ್ಯಪೂರ್ವ", 5, 0.5, "ಮಧ್ಯ ಪೂರ್ವ"),
        (["ಮಧ್ಯ+", "+ಪೂರ್ವ"], "ಮಧ್ಯಪೂರ್ವ", 5, PAUSE_S - 0.1, "ಮಧ್ಯಪೂರ್ವ"),
        (["ಮಧ್ಯ+", "+ಪೂರ್ವ+", "+ದಲ್ಲಿ"], "ಮಧ್ಯಪೂರ್ವದಲ್ಲಿ", 5, 0.5, "ಮಧ್ಯ ಪೂರ್ವದಲ್ಲಿ"),
        # A pause elsewhere than at the seam, and a seam whose right side opens no word.
        (["ಮಧ್ಯ+", "+ಪೂರ್ವ"], "ಮಧ್ಯಪೂರ್ವ", 2, 0.5, "ಮಧ್ಯಪೂರ್ವ"),
        (["ಮನೆ+", "+ಯಲ್ಲಿ"], "ಮನೆಯಲ್ಲಿ", 4, 0.5, "ಮನೆಯಲ್ಲಿ"),
    ],
)
def test_parted(
    pieces: list[str], word: str, pause_before: int, pause_s: float, wanted: str
) -> None:
    found = hypothesis(pieces, word, pause_before, pause_s)
    segment = spoken().segment(Stretch(0, 16000 * 5), [found])
    assert segment.text == wanted
    assert [len(w.subwords) for w in segment.words] == (
        [len(pieces)] if " " not in wanted else [1, len(pieces) - 1]
    )
    starts = [w.start for w in segment.words]
    assert starts == sorted(starts) and all(w.start < w.end for w in segment.words)
    if " " in wanted:
        assert segment.words[1].start - segment.words[0].end == pytest.approx(pause_s, abs=FRAME_S)
