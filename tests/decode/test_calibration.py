"""What a model's configuration says of confidences and languages, and the program that fits it."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest

from uyir.decode.calibration import (
    ALL,
    Identification,
    normalised_cross_entropy,
    read_calibration,
    read_identification,
)
from uyir.decode.evidence import LANGUAGE_EVIDENCE, WORD_EVIDENCE, Spoken
from uyir.errors import ModelError

_path = Path(__file__).resolve().parents[2] / "benchmarks" / "calibrate.py"
_spec = importlib.util.spec_from_file_location("calibrate", _path)
calibrate = importlib.util.module_from_spec(_spec)
sys.modules["calibrate"] = calibrate  # dataclasses look their module up
_spec.loader.exec_module(calibrate)


def spoken(frames, score, lm=-10.0):
    return Spoken(frames, score, score - lm, -1.0, lm, frames // 3, 4.0)


def test_each_language_has_weights_of_its_own_and_short_speech_is_judged_as_such():
    heard = {"ta": spoken(20, -10.0), "kn": spoken(20, -12.0)}
    assert Identification().best(heard) == "ta"
    assert Identification(offsets={"kn": 1.0}).best(heard) == "kn"
    mine = {"ta": {"score": 2.0}, "kn": {"score": 1.0, "short": 3.0}}
    assert Identification(mine).best(heard) == "kn"
    long = {"ta": spoken(2000, -1000.0), "kn": spoken(2000, -1200.0)}
    assert Identification({"ta": {"score": 1.0}, "kn": {"score": 1.0, "short": 3.0}}).best(
        long
    ) == ("ta")
    # Silence in one language says nothing for it; a language without weights has the score alone.
    assert Identification(mine).best({"ta": Spoken(), "kn": spoken(5, -100.0)}) == "kn"
    assert Identification({"kn": {"score": 1.0}}).best(heard) == "ta"


def test_configurations_of_all_times_are_read():
    assert read_identification({}, "x") == Identification()
    assert read_identification({"identify": {"kn": 0.1}}, "x").offsets == {"kn": 0.1}
    once = {"weights": {"score": 2.0}, "offsets": {"kn": 1.0}}
    assert read_identification({"identify": once}, "x").weights == {ALL: {"score": 2.0}}
    each = {"weights": {"ta": {"lm": 2.0}, "kn": {"short": 1.0}}, "offsets": {}}
    assert read_identification({"identify": each}, "x").weights == each["weights"]
    assert read_calibration({}, "x") is None
    for wrong in (
        {"weights": {"ta": {"nonsense": 1.0}}, "offsets": {}},
        {"weights": {"ta": {"lm": "inf"}}, "offsets": {}},
        {"weights": {"ta": {"lm": 1.0}}},
        {"weights": [1.0], "offsets": {}},
        3,
    ):
        with pytest.raises(ModelError, match="identify"):
            read_identification({"identify": wrong}, "config.json")


def test_what_is_fitted_tells_languages_apart_and_says_so_of_what_it_has_not_seen(capsys):
    """Tamil's scores are better at all times, and more so where it is spoken: a common weight misses that."""
    rng = random.Random(0)
    recordings, words = [], []
    for i in range(400):
        language = "ta" if i // 2 % 2 else "kn"
        frames = rng.randrange(15, 60)
        better = rng.gauss(3.0 if language == "ta" else 1.0, 0.4) * frames / 10
        heard = {"ta": spoken(frames, -frames + better), "kn": spoken(frames, -frames)}
        place = ("a", "b", "x-ta" if language == "ta" else "x-kn")[i // 4 % 3]
        recordings.append(calibrate.Recording(f"{place} word", language, heard))
        sure = rng.gauss(0.0, 1.0)
        evidence = {**dict.fromkeys(WORD_EVIDENCE, 0.0), "posterior": sure}
        words.append(calibrate.Word(i, f"{place} word", sure + rng.gauss(0, 0.5) > 0, evidence))
    halves = [list(range(0, 400, 2)), list(range(1, 400, 2))]
    found = []
    for fitted, measured in (halves, halves[::-1]):
        found += calibrate.measure(words, recordings, fitted, measured, ("kn", "ta"))
    assert len(found) == 400 and sum(one.told for one in found) > 380
    pairs = [pair for one in found for pair in one.words]
    assert normalised_cross_entropy([p[0] for p in pairs], [p[1] for p in pairs]) > 0.3
    calibrate.report(found)
    calibrate.left_out(recordings, ("kn", "ta"))
    said = capsys.readouterr().out
    assert said.splitlines()[1].startswith("all\t400\t") and "x-ta word" in said
    assert "without x:" in said and "without a:" in said
    rule = calibrate.fit_identification(recordings, ("kn", "ta"))
    assert set(rule.weights) == {"kn", "ta"} and set(rule.weights["kn"]) == set(LANGUAGE_EVIDENCE)
    config = {"identify": {"weights": rule.weights, "offsets": rule.offsets}}
    assert read_identification(config, "x") == rule
