"""uyir pronounce."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from uyir.errors import DataError
from uyir.lexicon.commands import pronounce
from uyir.lexicon.user import UserLexicon, pronounce_subwords


def run(*arguments: str, stdin: str = "") -> Result:
    # click before 8.2 (the Python 3.9 lane) mixes stderr into stdout unless told not to.
    old = tuple(map(int, version("click").split(".")[:2])) < (8, 2)
    apart = {"mix_stderr": False} if old else {}
    return CliRunner(**apart).invoke(
        pronounce, arguments, input=stdin, standalone_mode=False, catch_exceptions=False
    )


def test_words_as_tsv() -> None:
    result = run("-l", "ta", "அகம்", "பாம்பு")
    assert result.stdout == "அகம்\ta g a m\tɐɡɐm\nபாம்பு\tp aa m b eu\tpaːmbɯ\n"
    assert not result.return_value


def test_subwords_are_joined_first() -> None:
    result = run("-l", "ta", "படித்+", "+த்+", "+ஆன்", "கிட்டு", "படு+", "+கிட்டு")
    assert [line.split("\t")[:2] for line in result.stdout.splitlines()] == [
        ["படித்தான்", "p a dx i tt aa n"],
        ["கிட்டு", "k i ttx eu"],
        ["படுகிட்டு", "p a dx u g i ttx eu"],
    ]


def test_json_has_an_object_a_word() -> None:
    result = run("-l", "kn", "--json", "-", stdin="ಅಕ್ಕ, ಬುದ್ಧ!\n\nಹೃದಯ\n")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["word"] for row in rows] == ["ಅಕ್ಕ", "ಬುದ್ಧ", "ಹೃದಯ"]
    assert rows[0] == {"word": "ಅಕ್ಕ", "phones": ["a", "kk", "a"], "ipa": "ɐkːɐ"}


def test_variants_and_rules() -> None:
    result = run("-l", "kn", "--variants", "--max-weight", "2", "--explain", "ಹೃದಯ")
    cells = [line.split("\t") for line in result.stdout.splitlines()]
    assert [(c[1], c[3]) for c in cells] == [("h r i d a y a", "0"), ("h r u d a y a", "0.7")]
    assert "vocalic_r" in cells[0][4] and "vocalic_r_u" in cells[1][4]
    row = json.loads(run("-l", "kn", "--variants", "--explain", "--json", "ಹೃದಯ").stdout)
    assert row["weight"] == 0 and row["variants"][1]["weight"] == 0.7 and "rules" in row
    assert (
        len(run("-l", "kn", "--variants", "--max-weight", "0.5", "ಹೃದಯ").stdout.splitlines()) == 1
    )


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("அகம்\r\n\nவீடு மரம்\n", encoding="utf-8")
    assert len(run("-l", "ta", str(path)).stdout.splitlines()) == 3


def test_unreadable_files_lose_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"\xe9\n")
    (tmp_path / "good.txt").write_text("அகம்\n", encoding="utf-8")
    names = [str(tmp_path / name) for name in ("none.txt", "latin.txt", "good.txt")]
    result = run("-l", "ta", *names, "வீடு", str(tmp_path))
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["வீடு", "அகம்"]
    assert result.return_value == 1
    errors = result.stderr.splitlines()
    assert len(errors) == 3 and all(str(tmp_path) in line for line in errors)


def test_bad_words_lose_nothing_else() -> None:
    result = run("-l", "ta", "-", stdin="அகம் ಅಕ್ಕ abc\n\nாக வீடு\n" + "தான்" * 2500 + "\n")
    words = [line.split("\t")[0] for line in result.stdout.splitlines()]
    assert words == ["அகம்", "வீடு", "தான்" * 2500]
    assert result.return_value == 1
    errors = result.stderr.splitlines()
    assert len(errors) == 3
    assert errors[0].startswith("-:1: 'ಅಕ್ಕ'") and errors[2].startswith("-:3: 'ாக'")


LEXICON = """# mine
வீடு\tv ii dx u\t0.5

வீடு\tv ii dx eu
படித்+\tb a dx i d
"""


def test_user_lexicon(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(LEXICON, encoding="utf-8")
    arguments = ["-l", "ta", "--lexicon", str(path)]
    result = run(*arguments, "--variants", "வீடு")
    assert [line.split("\t")[1] for line in result.stdout.splitlines()] == [
        "v ii dx eu",
        "v ii dx u",
    ]
    result = run(*arguments, "--explain", "படித்+", "+ஆல்", "வீடுகள்")
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert lines[0][1] == "b a dx i d aa l" and lines[0][3].startswith("user_lexicon")
    assert lines[1][1] == "v ii dx u g a lx"


def test_user_subword_has_all_its_pronunciations(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("டிவி+\tdx i v i\t0.5\nடிவி+\tt i v i\n", encoding="utf-8")
    mine = UserLexicon.read(path, "ta")
    made = pronounce_subwords(["டிவி+", "+கள்"], "ta", mine, variants=False)
    assert [(" ".join(p.phones), p.weight) for p in made] == [
        ("t i v i g a lx", 0.0),
        ("dx i v i g a lx", 0.5),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("வீடு\tv ii q", "'q' in 'வீடு' is not a phone"),
        ("வீடு", "1 columns"),
        ("வீடு\tv\t1\t2", "4 columns"),
        ("வீடு\t", "has no phones"),
        ("வீடு\tv\tmuch", "weight 'much'"),
        ("வீடு\tv\t-1", "between 0 and 100"),
        ("வீடு\tv\tnan", "between 0 and 100"),
        ("house\th", "not a letter"),
        ("+\tv", "neither a word nor a marked subword"),
        ("அகம்\ta g a m", "twice"),
    ],
)
def test_user_lexicon_errors_name_the_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(f"# mine\nஅகம்\ta g a m\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        UserLexicon.read(path, "ta")
    assert str(caught.value).startswith(f"{path}:3: ") and message in str(caught.value)


def test_missing_user_lexicon(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        run("-l", "ta", "--lexicon", str(tmp_path / "none.tsv"), "அகம்")
