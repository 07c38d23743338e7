"""Folding, and the benchmark of the G2P on a small file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from uyir.lexicon.fold import load_fold
from uyir.lexicon.symbols import load_phones

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "g2p.py"


def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("uyir_benchmark_g2p", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("language", "ipa", "folded"),
    [
        ("ta", "ɐ kː ɐ", "a k a"),
        ("ta", "akka", "a k a"),
        ("ta", "k ɐ t r ʊ", "k a r u"),
        ("ta", "karru", "k a r u"),
        ("ta", "mˈʌɻaɪ", "m a ɻ a j"),
        ("ta", "m ɐ ɻ ɐ ɪ̯", "m a ɻ a j"),
        ("kn", "ɾɐ", "ɾ a"),
        ("kn", "ra", "ɾ a"),
        ("kn", "bʱ", "bʰ"),
        ("kn", "bʰ", "bʰ"),
    ],
)
def test_fold(language: str, ipa: str, folded: str) -> None:
    assert " ".join(load_fold(language)(ipa)) == folded


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_all_our_phones_fold_to_known_symbols(language: str) -> None:
    fold = load_fold(language)
    known = {symbol for folded in fold.table.values() for symbol in folded}
    for phone in load_phones().values():
        assert set(fold(phone.ipa)) <= known, phone


def test_folding_twice_is_folding_once() -> None:
    for language in ("ta", "kn"):
        fold = load_fold(language)
        for folded in {symbol for value in fold.table.values() for symbol in value}:
            assert fold(folded) == (folded,)


def test_distance_is_levenshtein() -> None:
    distance = benchmark().distance
    assert distance("kitten", "sitting") == 3
    assert distance("", "abc") == 3 and distance("abc", "") == 3 and distance("abc", "abc") == 0


def test_rates_on_a_small_file(tmp_path: Path) -> None:
    data = tmp_path / "words.tsv"
    # The second word is wrong by one phone of five; the nearest of two lines counts.
    data.write_text(
        "அக்கா\tɐ kː aː\nபாம்பு\tb aː m b ʊ\nமரம்\tm ɐ ɾ ɐ m\nமரம்\tx x x\nabc\ta b\n",
        encoding="utf-8",
    )
    rates = benchmark().rates("ta", data, peers=False)
    assert rates["uyir"] == {"per": (1 + 2) / (3 + 5 + 5 + 2), "words": 0.5, "errors": 3}
    assert rates["uyir best variant"]["errors"] == 2


def test_command_reports_and_names_a_bad_line(tmp_path: Path) -> None:
    data = tmp_path / "words.tsv"
    data.write_text("ಅಕ್ಕ\tɐ k k ɐ\n", encoding="utf-8")
    main = benchmark().main
    arguments = ["--language", "kn", "--data", str(data), "--alone", "--errors", "3"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0 and "uyir\tPER 0.0000" in result.output
    data.write_text("ಅಕ್ಕ\tɐ k k ɐ\nಅಕ್ಕ\n", encoding="utf-8")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and f"{data}:2:" in result.output
