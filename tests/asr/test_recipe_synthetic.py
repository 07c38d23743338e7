"""The synthetic recipe: which sentences it takes, and what it makes of them."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import lzma
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from uyir.asr.data import Loader, read_manifest
from uyir.lexicon.symbols import tokens_table

RECIPE = Path(__file__).parents[2] / "recipes" / "synthetic"


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        f"synthetic_{name}", RECIPE / f"{name}.py"
    )
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


prepare, synthesise = load("prepare"), load("synthesise")


def have_espeak() -> bool:
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        return False
    return True


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    status: int = module.main()
    return status


def rows_of(path: Path) -> list[list[str]]:
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file][1:]


LINES = [
    "நாளை மழை பெய்யும் என்று சொன்னார்கள்.",
    "எங்கள் ஊரில் ஒரு பெரிய குளம் இருக்கிறது",
    "அவன் 12 நாட்கள் அங்கே இருந்தான்",
    "இந்த செய்தி BBC இணையதளத்தில் வந்தது",
    "காலையில் பறவைகள் பாடும் ஓசை கேட்டு விழித்தேன் என்று அம்மா சொன்னாள்",
    "ಇದು ಕನ್ನಡ ಸಾಲು",
    "மழை",
]
HELD_OUT = "பறவைகள் பாடும் ஓசை கேட்டு விழித்தேன் என்று"


def test_which_lines_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.txt.xz").write_bytes(lzma.compress("\n".join(LINES).encode()))
    (tmp_path / "h.txt").write_text(HELD_OUT + "\n", encoding="utf-8")
    (tmp_path / "n.tsv").write_text("17\tபதினேழு\tseventeen\n20\tஇருபது\tx\n", encoding="utf-8")
    out = tmp_path / "s.tsv.xz"
    text, items = f"ta={tmp_path / 't.txt.xz'}", f"ta={tmp_path / 'n.tsv'}"
    options = ("--sentences", 50, "--words", 3, "--phrases", 5, "--out", out)
    held_out = ("--held-out", tmp_path / "h.txt")
    assert run(prepare, monkeypatch, "--text", text, "--items", items, *held_out, *options) == 0
    rows = rows_of(out)
    texts = {row[2] for row in rows}
    assert LINES[0].rstrip(".") in texts
    assert LINES[1] in texts
    assert {"பதினேழு", "இருபது"} <= texts
    assert not any("12" in t or "bbc" in t or "ஓசை" in t or "ಇದು" in t for t in texts)
    assert len({row[0] for row in rows}) == len(rows)
    assert sum(len(t.split()) == 1 for t in texts) >= 4
    tokens = tokens_table()
    assert all(phone in tokens for row in rows for phone in row[3].split())
    assert run(prepare, monkeypatch, "--text", text, "--items", items, *held_out, *options) == 0
    assert rows_of(out) == rows


def test_rare_phones_are_filled_up() -> None:
    """Beyond the count, only texts with phones that were heard too little are added."""
    texts = [("மழை",)] * 5 + [("நாள்",)] + [("மழை",)] * 5
    chosen = prepare.choose(texts, "ta", 5, 1)
    assert [text for text, _ in chosen] == ["மழை"] * 5
    first = [("நாள்",), *[("மழை",)] * 20, ("நாள்",)]
    chosen = prepare.choose(first, "ta", 12, 2)
    assert [text for text, _ in chosen] == ["நாள்"] + ["மழை"] * 11 + ["நாள்"]


def test_long_lines_are_cut_without_loss() -> None:
    rng = random.Random(0)
    for count in range(2, 90):
        words = [str(n) for n in range(count)]
        pieces = list(prepare.stretches(words, 16, rng))
        assert [word for piece in pieces for word in piece] == words
        assert all(2 <= len(piece) <= 16 for piece in pieces)


def test_user_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "o.tsv")
    assert run(prepare, monkeypatch, "--text", "ta=/none.txt", *out) == 1
    assert "/none.txt: no such file" in capsys.readouterr().err
    assert run(prepare, monkeypatch, "--text", "none.txt", *out) == 1
    assert "want LANGUAGE=FILE" in capsys.readouterr().err
    (tmp_path / "s.tsv").write_text("id\ttext\n")
    pytest.importorskip("soxr")
    empty = ("--espeak", tmp_path, "--out", tmp_path / "o")
    assert run(synthesise, monkeypatch, "--sentences", tmp_path / "s.tsv", *empty) == 1
    assert "no espeak-ng-data" in capsys.readouterr().err


def test_improbable_speech_is_dropped() -> None:
    noise = (np.random.default_rng(0).normal(size=22050) * 3000).astype("<i2")
    silence = np.zeros(22050, dtype="<i2")
    assert synthesise.tidy(silence, 22050, 10) is None
    assert synthesise.tidy(noise[:0], 22050, 10) is None
    assert synthesise.tidy(noise, 22050, 50) is None  # 20 ms a phone
    assert synthesise.tidy(noise, 22050, 1) is None  # a second for one
    kept = synthesise.tidy(np.concatenate([silence, noise, silence]), 22050, 12)
    assert abs(len(kept) - 1.3 * 16000) < 20


@pytest.mark.skipif(not have_espeak(), reason="espeak-ng is not installed")
def test_spoken_resumed_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [
        ("ta", "நாளை மழை பெய்யும்", "n aa lx ai m a zx ai p e y y u m"),
        ("kn", "ನಾಳೆ ಮಳೆ ಬರುತ್ತದೆ", "n aa lx e m a lx e b a r u tt a d e"),
    ] * 3
    lines = ["id\tlanguage\ttext\tphones"]
    lines += [f"s{n}\t{lang}\t{text}\t{phones}" for n, (lang, text, phones) in enumerate(sentences)]
    (tmp_path / "s.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path / "out"
    arguments = ("--sentences", tmp_path / "s.tsv", "--out", out, "--shard", 4, "--workers", 1)
    assert run(synthesise, monkeypatch, *arguments) == 0
    manifest = (out / "manifest.tsv").read_text(encoding="utf-8")
    tokens = tokens_table()
    rows = read_manifest(out / "manifest.tsv", [tokens.symbol(n) for n in range(len(tokens))])
    assert len(rows) == 6
    assert all(0.4 < row.duration < 6 for row in rows)
    batch = next(Loader(rows, ["ta", "kn"]).load([list(range(6))], 0))
    assert (batch.samples.abs().amax(dim=1) > 1000).all()
    assert not any(name in manifest for name in synthesise.RESERVED)
    # A shard that is missing is spoken again, the others are left alone.
    shards = sorted(out.glob("*.i16"))
    assert len(shards) == 2
    whole, stamp = shards[1].read_bytes(), shards[0].stat().st_mtime_ns
    shards[1].unlink()
    shards[1].with_suffix(".tsv").unlink()
    assert run(synthesise, monkeypatch, *arguments) == 0
    # Not to the sample: espeak-ng's engine carries some state from one sentence to the next.
    assert 0.9 < len(shards[1].read_bytes()) / len(whole) < 1.1
    assert shards[0].stat().st_mtime_ns == stamp
    again = (out / "manifest.tsv").read_text(encoding="utf-8")
    assert [line.split("\t")[0] for line in again.splitlines()] == [
        line.split("\t")[0] for line in manifest.splitlines()
    ]


@pytest.mark.skipif(not have_espeak(), reason="espeak-ng is not installed")
def test_reserved_voices_are_never_chosen() -> None:
    names = synthesise.variants(synthesise.find_data(None), [])
    assert len(names) > 80
    assert not set(names) & set(synthesise.RESERVED)
    evaluation = {"klatt5", "Andrea", "Michael", "grandpa", "female4", "f4", "Diogo"}
    assert set(synthesise.RESERVED) == evaluation
    with pytest.raises(synthesise.Failure, match="no voice variant 'nobody'"):
        synthesise.variants(synthesise.find_data(None), ["nobody"])


def test_voicing_varies_and_repeats() -> None:
    sentences = [synthesise.Sentence(f"s{n}", "ta", "மழை வந்தது நேற்று", "m") for n in range(300)]
    voicings = [synthesise.voicing_of(s, ["", "f1", "m2"], "1.0") for s in sentences]
    assert voicings == [synthesise.voicing_of(s, ["", "f1", "m2"], "1.0") for s in sentences]
    assert {v.variant for v in voicings} == {"", "f1", "m2"}
    assert all(110 <= v.rate <= 230 and 15 <= v.pitch <= 85 for v in voicings)
    assert max(v.rate for v in voicings) > 220 and min(v.pitch for v in voicings) < 20
    assert any("," in v.text for v in voicings)
    assert all(v.text.replace(",", "") == "மழை வந்தது நேற்று" for v in voicings)


def test_a_sentence_that_kills_espeak_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = [synthesise.Sentence(f"s{n}", "ta", "அம்மா", "a mm aa") for n in range(3)]
    task = synthesise.Task(tmp_path / "part.i16", sentences, [""], "1", None)

    def crash_on_the_second(command: list[str], **_: object) -> SimpleNamespace:
        plan = json.loads(Path(command[-1]).read_text(encoding="utf-8"))
        for number in range(3):
            (tmp_path / "part.at").write_text(str(number))
            if number == 1 and number not in plan["avoid"]:
                return SimpleNamespace(returncode=-11, stdout="", stderr="")
        return SimpleNamespace(returncode=0, stdout="2 1 32000\n", stderr="")

    monkeypatch.setattr(synthesise.subprocess, "run", crash_on_the_second)
    assert synthesise._speak_apart(task) == (2, 1, 32000)
    assert "s1" in capsys.readouterr().err
    monkeypatch.setattr(
        synthesise.subprocess,
        "run",
        lambda *_, **__: SimpleNamespace(returncode=1, stdout="", stderr="no espeak"),
    )
    with pytest.raises(synthesise.Failure, match="no espeak"):
        synthesise._speak_apart(task)
