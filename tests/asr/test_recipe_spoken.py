"""How written phones are said: transcripts stay, sounds stray by a degree, and only where the habit fits."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from uyir.asr.data import read_manifest
from uyir.lexicon.symbols import tokens_table

RECIPE = Path(__file__).parents[2] / "recipes" / "synthetic"


def load(name: str) -> ModuleType:
    sys.path.insert(0, str(RECIPE))
    try:
        specification = importlib.util.spec_from_file_location(name, RECIPE / f"{name}.py")
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module
        specification.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(RECIPE))


spoken = load("spoken")
splice = load("splice")


def heard(words: list[str], language: str, degree: float = 1.0) -> set[str]:
    return {
        " ".join(spoken.say([w.split() for w in words], language, random.Random(n), degree))
        for n in range(300)
    }


def test_degree_nought_is_the_book() -> None:
    assert heard(["n uu rx eu", "e zx u b a d eu"], "ta", 0.0) == {"n uu rx eu e zx u b a d eu"}


def test_habits_of_a_language_in_their_place() -> None:
    found = heard(["aa rx eu"], "ta")
    assert "aa r eu" in found and "aa rx eu" in found
    assert "v" in " ".join(heard(["i r u b a d eu"], "ta")).split()  # ப between vowels
    assert all(said.startswith("b") for said in heard(["b a s"], "ta"))  # and nowhere else
    assert any(said.startswith("y ") for said in heard(["e l e"], "kn"))
    assert not any(" y " in f" {said[2:]} " for said in heard(["b e l a"], "kn"))
    assert "g a" in heard(["gh a"], "kn") and heard(["gh a"], "ta") == {"gh a"}


def test_sounds_are_phones_and_pauses_lie_between_words() -> None:
    names = set(tokens_table())
    assert {s for habits in spoken._HABITS.values() for h in habits for s in h.said} <= names
    sounds = spoken.say([["k", "a"], ["l", "i"]], "ta", random.Random(1), 0.0, pauses=1.0)
    assert sounds == ["k", "a", spoken.PAUSE, "l", "i"]


@pytest.fixture
def voice(tmp_path: Path) -> object:
    """Two recordings of tones, one pitch a phone: ``k a l i`` and ``m a k i``."""
    hertz = {"k": 300, "a": 600, "l": 900, "i": 1200, "m": 1500}
    rows, lines = ["id\taudio\tduration\tlanguage\ttext\tphones"], []
    for name, phones in (("one", "k a l i"), ("two", "m a k i")):
        tones = [
            0.3 * np.sin(2 * np.pi * hertz[phone] * np.arange(3200) / 16000)
            for phone in phones.split()
        ]
        soundfile.write(tmp_path / f"{name}.wav", np.concatenate(tones), 16000)
        rows.append(f"{name}\t{name}.wav\t0.8\tkn\t-\t{phones}")
        for place, phone in enumerate(phones.split()):
            lines.append(f"{name} 1 {0.2 * place:.3f} 0.200 {phone} 1.000")
    (tmp_path / "list.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "list.ctm").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return splice.Voice(tmp_path / "list.tsv", tmp_path / "list.ctm")


def test_a_word_of_two_recordings(voice: object) -> None:
    rng = random.Random(1)
    keys = voice.path(["m", "a", "l", "i"], rng)  # type: ignore[attr-defined]
    assert keys[0][0] == "#" and keys[-1][-1] == "#"
    said = voice.say(keys, rng)  # type: ignore[attr-defined]
    assert 0.65 < len(said) / 16000 < 0.95

    def pitch(second: float) -> float:
        piece = said[round(second * 16000) :][:1024] * np.hanning(1024)
        return float(np.abs(np.fft.rfft(piece)).argmax() * 16000 / 1024)

    assert pitch(0.06) == pytest.approx(1500, abs=32)
    assert pitch(0.27) == pytest.approx(600, abs=32)
    assert pitch(0.5) == pytest.approx(900, abs=32)


def test_what_was_never_said_cannot_be(voice: object) -> None:
    assert voice.path(["m", "i"], random.Random(1)) is None  # type: ignore[attr-defined]


def test_spliced_shards(tmp_path: Path, voice: object, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = tmp_path / "sentences.tsv"
    sentences.write_text(
        "id\tlanguage\ttext\tphones\n"
        "a\tkn\tಮಲಿ ಕಲಿ ಮಿಕ\tm a l i k a l i m i k a\n"
        "b\tkn\tಮಕಿ ಮಲಿ\tm a k i m a l i\n",
        encoding="utf-8",
    )
    arguments = ["splice", "--sentences", sentences, "--recordings", tmp_path / "list.tsv"]
    arguments += ["--phones", tmp_path / "list.ctm", "--out", tmp_path / "out", "--workers", 1]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    assert splice.main() == 0
    found = read_manifest(tmp_path / "out" / "manifest.tsv", tokens_table())
    # Both sentences without the word that cannot be said; the join between words needs i k, i m.
    assert found and all(set(u.text.split()) <= {"ಮಲಿ", "ಕಲಿ", "ಮಕಿ"} for u in found)
