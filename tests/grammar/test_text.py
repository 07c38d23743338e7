"""Sentences for training: which are taken from a text, and none that is kept for measuring."""

from __future__ import annotations

import lzma
from pathlib import Path

from uyir.grammar.text import HeldOut, sentences, sentences_of

MORNING = "காலையில் பறவைகள் பாடும் ஓசை கேட்டு விழித்தேன் என்று அம்மா சொன்னாள்"


def test_a_line_is_cut_and_what_is_foreign_left_out() -> None:
    line = "மழை வந்தது. இந்த BBC செய்தி! வா, போ ಮಳೆ? \u200cவீடு பெரியது"
    assert list(sentences_of(line, "ta")) == [["மழை", "வந்தது"], ["வீடு", "பெரியது"]]
    assert list(sentences_of("...", "ta")) == []


def test_what_is_held_out_is_shared_by_nothing() -> None:
    held_out = HeldOut()
    held_out.add(f"{MORNING}. மழை வந்தது.", "ta")
    words = MORNING.split()
    assert held_out.shares(words[1:7]) and held_out.shares(["ஓ", *words[2:8], "ஓ"])
    assert not held_out.shares(words[:5]) and not held_out.shares([*words[:5], "ஓ"])
    # A short sentence as a whole, not its words.
    assert held_out.shares(["மழை", "வந்தது"])
    assert not held_out.shares(["மழை"]) and not held_out.shares(["நேற்று", "மழை", "வந்தது"])
    assert HeldOut(3).read([], "ta").shares(words) is False


def test_texts_without_what_is_held_out(tmp_path: Path) -> None:
    lines = ["வீடு பெரியது. மழை வந்தது", f"நேற்று {MORNING}", "நாளை வா"]
    (tmp_path / "t.txt.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    (tmp_path / "h.txt").write_text(f"{MORNING}\nமழை வந்தது\n", encoding="utf-8")
    found = list(sentences([tmp_path / "t.txt.xz"], "ta", [tmp_path / "h.txt"]))
    assert found == [["வீடு", "பெரியது"], ["நாளை", "வா"]]
