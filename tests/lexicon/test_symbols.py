"""Symbol tables and the phone set."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from uyir.errors import DataError
from uyir.lexicon.symbols import Symbols, geminates, load_phones, tokens_table


def test_table_begins_with_blank_and_noise() -> None:
    tokens = tokens_table()
    assert [tokens.symbol(i) for i in range(3)] == ["<blk>", "<spn>", "a"]
    assert len(tokens) == len(load_phones()) + 2


def test_phone_set_is_ascii_distinct_and_in_order() -> None:
    phones = load_phones()
    assert 80 <= len(phones) <= 110
    assert all(name.isascii() and name == name.strip() for name in phones)
    assert len({phone.ipa for phone in phones.values()}) == len(phones)
    assert all(unicodedata.normalize("NFC", p.ipa) == p.ipa for p in phones.values())
    assert list(tokens_table())[2:] == list(phones)


def test_geminates_are_long_consonants() -> None:
    phones = load_phones()
    pairs = geminates()
    assert pairs["k"] == "kk" and pairs["tx"] == "ttx" and pairs["zx"] == "zx"
    for single, double in pairs.items():
        assert double == single or phones[double].ipa == phones[single].ipa + "ː"


def test_round_trip(tmp_path: Path) -> None:
    table = Symbols(["<eps>", "படி+", "+த்த்+", "#0"])
    table.write(tmp_path / "words.txt")
    again = Symbols.read(tmp_path / "words.txt")
    assert again == table and again.id("#0") == 3 and "படி" not in again
    assert table.add("படி+") == 1 and table.add("new") == 4 and again != table


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a 0\nb 2\n", ":2:"),
        ("a 0\na 1\n", ":2:"),
        ("a 0\nb\n", ":2:"),
        ("a 0\nb 1 1\n", ":2:"),
        ("a x\n", ":1:"),
        ("", "empty"),
    ],
)
def test_damaged_table_names_file_and_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"tokens\.txt") as caught:
        Symbols.read(path)
    assert line in str(caught.value)


def test_unknown_symbols_and_ids() -> None:
    table = Symbols(["a", "b"])
    with pytest.raises(DataError, match="'c'"):
        table.id("c")
    with pytest.raises(DataError, match="2"):
        table.symbol(2)
    with pytest.raises(DataError, match="-1"):
        table.symbol(-1)
    with pytest.raises(DataError, match="space"):
        table.add("a b")
    with pytest.raises(DataError, match="twice"):
        Symbols(["a", "a"])


def test_missing_or_binary_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such"):
        Symbols.read(tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe 0\n")
    with pytest.raises(DataError, match="UTF-8"):
        Symbols.read(tmp_path / "bad.txt")
