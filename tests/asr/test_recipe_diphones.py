"""Recorded diphones: which sounds are said for which phones, and what cannot be said."""

from __future__ import annotations

import importlib.util
import random
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from uyir.asr.data import read_manifest
from uyir.lexicon.symbols import tokens_table

RECIPE = Path(__file__).parents[2] / "recipes" / "synthetic"


def load() -> ModuleType:
    sys.path.insert(0, str(RECIPE))
    try:
        specification = importlib.util.spec_from_file_location("diphones", RECIPE / "diphones.py")
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module
        specification.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(RECIPE))


diphones = load()
PAIRS = ("#-k", "k-a", "a-l", "l-u", "l-i", "u-#", "i-#", "a-j", "j-#", "l-#", "l-a")


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    group = tmp_path / "toy.group"
    group.write_text("EST_Header_End\n" + "".join(f"{pair} 0 1 2\n" for pair in PAIRS))
    monkeypatch.setattr(diphones, "VOICES", tmp_path)
    sounds = "k=k a=a l=L|l u=u i=i eu=u/i ai=a+j"
    return diphones.Inventory.of(diphones.Voice("voice_toy", "toy.group", sounds, "#", (80, 150)))


def said(inventory: object, phones: str, seed: int = 1) -> object:
    found = inventory.sounds_of(phones.split(), random.Random(seed))  # type: ignore[attr-defined]
    return None if found is None else [name for name, _ in found]


def test_second_choice_where_the_first_was_not_recorded(inventory: object) -> None:
    assert said(inventory, "k a l u") == ["k", "a", "l", "u", "#"]


def test_two_sounds_of_a_diphthong_share_its_length(inventory: object) -> None:
    found = inventory.sounds_of(["k", "ai"], random.Random(1))  # type: ignore[attr-defined]
    assert [name for name, _ in found] == ["k", "a", "j", "#"]
    assert found[1][1] == found[2][1] == pytest.approx(diphones.LONG / 2)


def test_geminates_are_held(inventory: object) -> None:
    single = inventory.sounds_of(["k", "a", "l", "a", "l"], random.Random(1))  # type: ignore[attr-defined]
    double = inventory.sounds_of(["k", "a", "ll", "a", "l"], random.Random(1))  # type: ignore[attr-defined]
    assert double[2][0] == single[2][0] == "l"
    assert double[2][1] - single[2][1] == pytest.approx(diphones.GEMINATE)


def test_free_choices_are_drawn(inventory: object) -> None:
    ends = {tuple(said(inventory, "k a l eu", seed))[3] for seed in range(20)}  # type: ignore[arg-type]
    assert ends == {"u", "i"}


def test_what_a_voice_cannot_say(inventory: object) -> None:
    assert said(inventory, "k a tx u") is None  # no such phone
    assert said(inventory, "a l u") is None  # begins with a pair that was not recorded


def test_the_indian_voice_says_every_canonical_phone() -> None:
    voice = diphones.KNOWN["nsk"]
    have = {item.partition("=")[0] for item in voice.sounds.split()}
    lacking = []
    for name in tokens_table():
        base = name[1:] if name[:1] == name[1:2] and name[1:] in have else name
        if base not in have and not name.startswith("<") and not name.endswith("~"):
            lacking.append(name)
    assert lacking == []


@pytest.mark.skipif(
    shutil.which("festival") is None
    or not (diphones.VOICES / diphones.KNOWN["nsk"].group).exists(),
    reason="no festival with festvox-te-nsk",
)
def test_spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = tmp_path / "sentences.tsv"
    sentences.write_text(
        "id\tlanguage\ttext\tphones\n"
        "a\tta\tமழை வந்தது\tm a zx ai v a n d a d eu\n"
        "b\tkn\tಮನೆ ಇದೆ\tm a n e i d e\n",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    arguments = [
        "diphones",
        "--sentences",
        sentences,
        "--out",
        out,
        "--voices",
        "nsk",
        "--limit",
        4,
    ]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    assert diphones.main() == 0
    found = read_manifest(out / "manifest.tsv", tokens_table())
    assert {utterance.language for utterance in found} == {"ta", "kn"}
    assert all(0.3 < utterance.duration < 6 for utterance in found)
