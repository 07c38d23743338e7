"""Numbers both ways, for every language that has number tables; Tamil forms by hand."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner

from uyir.errors import DataError, ScriptError
from uyir.grammar.lists import LANGUAGE_DATA
from uyir.grammar.number_commands import number
from uyir.grammar.numbers import NumberGrammar, read_out
from uyir.grammar.segment import load_segmenter

LANGUAGES = sorted(p.parent.parent.name for p in LANGUAGE_DATA.glob("*/numbers/numerals.tsv"))


@pytest.fixture(scope="module", params=LANGUAGES)
def numbers(request: pytest.FixtureRequest) -> NumberGrammar:
    return NumberGrammar.load(request.param)


@pytest.fixture(scope="module")
def tamil() -> NumberGrammar:
    return NumberGrammar.load("ta")


def sample() -> list[int]:
    rng = random.Random(20)
    values = [*range(1200), 10**14, 10**14 + 10**7, *(10**k for k in range(15))]
    values += [rng.randrange(10**6) for _ in range(300)]
    values += [rng.randrange(10 ** rng.randrange(7, 15)) for _ in range(300)]
    return values


def test_digits_words_digits_is_the_identity(numbers: NumberGrammar) -> None:
    assert [n for n in sample() if numbers.parse(numbers.words(n))[:1] != [n]] == []


def test_no_two_numbers_have_the_same_words(numbers: NumberGrammar) -> None:
    values = set(sample())
    assert len({numbers.words(n) for n in values}) == len(values)


def test_every_line_of_the_tables_makes_an_arc(numbers: NumberGrammar) -> None:
    assert numbers.unused == []


def test_number_words_are_words_of_the_subword_grammar(numbers: NumberGrammar) -> None:
    segmenter = load_segmenter(numbers.language)
    words = {word for n in sample()[::7] for word in numbers.words(n).split()}
    outside = sorted(word for word in words if not segmenter.accepts(word))
    assert len(outside) <= 0.02 * len(words), outside


def test_the_fst_says_and_reads_what_the_search_does(numbers: NumberGrammar) -> None:
    pynini = pytest.importorskip("pynini")
    from uyir.grammar.number_fst import number_fst

    fst = number_fst(numbers.language)
    for n in sample()[::40]:
        words = numbers.words(n)
        written = pynini.accep(str(n), token_type="utf8")
        spoken = pynini.accep(words, token_type="utf8")
        # the words are among the best paths, and digits come back from them
        best = pynini.shortestdistance(written @ fst, reverse=True)[(written @ fst).start()]
        chosen = written @ fst @ spoken
        assert chosen.num_states() > 0, (n, words)
        found = pynini.shortestdistance(chosen, reverse=True)[chosen.start()]
        assert float(found) == pytest.approx(float(best), abs=1e-3)
        back = pynini.shortestpath(pynini.project(fst @ spoken, "input"))
        assert back.string("utf8") == str(n)


@pytest.mark.parametrize(
    "value, words",
    [
        (0, "பூஜ்ஜியம்"),
        (21, "இருபத்தொன்று"),
        (89, "எண்பத்தொன்பது"),
        (98, "தொண்ணூற்றெட்டு"),
        (301, "முந்நூற்று ஒன்று"),
        (999, "தொள்ளாயிரத்து தொண்ணூற்றொன்பது"),
        (1000, "ஆயிரம்"),
        (5000, "ஐயாயிரம்"),
        (21000, "இருபத்தோராயிரம்"),
        (100_000, "ஒரு லட்சம்"),
        (2_500_007, "இருபத்தைந்து லட்சத்து ஏழு"),
        (10**7 + 1, "ஒரு கோடியே ஒன்று"),
        (10**12, "ஒரு லட்சம் கோடி"),
        (10**14, "ஒரு கோடி கோடி"),
        (Fraction(5, 2), "இரண்டரை"),
        (Fraction(11, 4), "இரண்டே முக்கால்"),
    ],
)
def test_tamil_as_we_write_it(tamil: NumberGrammar, value: Fraction, words: str) -> None:
    assert tamil.parse(words)[0] == value
    if value != Fraction(11, 4):
        assert tamil.words(value) == words


@pytest.mark.parametrize(
    "words, value",
    [
        ("இருபத்து ஒன்று", 21),
        ("இருபத்தி ஒண்ணு", 21),
        ("இருபது ஒன்று", 21),
        ("எண்பத்தியொன்பது", 89),
        ("முன்னூத்தி அஞ்சு", 305),
        ("முந்நூற்றி ஐந்து", 305),
        ("நூற்றிருபது", 120),
        ("ஆயிரத்துத் தொள்ளாயிரத்து எண்பத்து நான்கு", 1984),
        ("ஒன்று ஆயிரம் இரண்டு நூறு", 1200),
        ("ஓர் ஆயிரத்து ஒன்று", 1001),
        ("இருபத்தொரு லட்சம்", 2_100_000),
        ("ஒன்றரை லட்சம்", 150_000),
        ("இரண்டே முக்கால் கோடி", 27_500_000),
        ("மூன்று புள்ளி ஒன்று நான்கு", Fraction(157, 50)),
        ("அரை", Fraction(1, 2)),
    ],
)
def test_tamil_variants(tamil: NumberGrammar, words: str, value: Fraction) -> None:
    assert tamil.parse(words)[:1] == [value]


@pytest.mark.parametrize(
    "words", ["", "மரம்", "இருபத்து", "ஐந்து ஆறு", "நூறு நூறு", "பத்து ஐந்து", "ஒரு", "x", "லட்சம் லட்சம்"]
)
def test_what_is_no_number_does_not_parse(tamil: NumberGrammar, words: str) -> None:
    assert tamil.parse(words) == []


@pytest.mark.parametrize(
    "written, words",
    [
        ("25", "இருபத்தைந்து"),
        ("௨௫", "இருபத்தைந்து"),
        ("௨௱௫௰", "இருநூற்று ஐம்பது"),
        ("1,00,000", "ஒரு லட்சம்"),
        ("3.140", "மூன்று புள்ளி ஒன்று நான்கு பூஜ்ஜியம்"),
        ("½", "அரை"),
        ("2½", "இரண்டரை"),
        ("25-க்கு", "இருபத்தைந்துக்கு"),
        ("25ஆம்", "இருபத்தைந்தாம்"),
        ("1-ஆம்", "முதலாம்"),
        ("1990-களில்", "ஆயிரத்து தொள்ளாயிரத்து தொண்ணூறுகளில்"),
        ("1000-ஐயும்", "ஆயிரத்தையும்"),
        ("100-இல்", "நூற்றில்"),
        ("007", "ஏழு"),
    ],
)
def test_tamil_tokens_of_text(tamil: NumberGrammar, written: str, words: str) -> None:
    assert tamil.read(written) == words


def test_endings_stay_behind_the_digits(tamil: NumberGrammar) -> None:
    reading = tamil.readings("இருபத்தைந்துக்கும்")[0]
    assert (reading.value, reading.digits, reading.ending) == (25, "25", "க்கும்")
    assert reading.text == "25-க்கும்"
    assert tamil.read(reading.text) == "இருபத்தைந்துக்கும்"


@pytest.mark.parametrize("token", ["", "x25", "25-zz", "2.5.1", "௰x", "-3", "1²"])
def test_what_is_no_written_number(tamil: NumberGrammar, token: str) -> None:
    with pytest.raises(ScriptError):
        tamil.read(token)


def test_limits(tamil: NumberGrammar) -> None:
    assert tamil.parse(tamil.words(tamil.limit - 1)) == [tamil.limit - 1]
    for value in (-1, tamil.limit, Fraction(1, 3)):
        with pytest.raises(ScriptError):
            tamil.words(value)


def test_numbers_are_read_out_where_they_stand() -> None:
    assert read_out("(2006-ஆம் ஆண்டு), 31.e7!", "ta") == [
        "இரண்டாயிரத்து", "ஆறாம்", "ஆண்டு", "முப்பத்தொன்று", "e7"
    ]  # fmt: skip
    assert read_out("ಕ್ರಿ.ಶ. ೧೮ನೇ 7x", "kn") == ["ಕ್ರಿ", "ಶ", "ಹದಿನೆಂಟನೇ", "7x"]


def test_numbers_in_running_text(tamil: NumberGrammar) -> None:
    text = [
        "ஒரு",
        "நாள்",
        "நூற்றி",
        "இருபது",
        "பேருக்கு",
        "ஐந்து",
        "ஆறு",
        "கால்",
        "பத்தாம்",
        "இருபத்து",
        "மரம்",
    ]
    spans = [(s.start, s.end, s.text) for s in tamil.written(text)]
    assert spans == [(2, 4, "120"), (5, 6, "5"), (6, 7, "6"), (8, 9, "10-ஆம்")]
    assert tamil.write(text, minimum=10) == (
        ["ஒரு", "நாள்", "120", "பேருக்கு", "ஐந்து", "ஆறு", "கால்", "10-ஆம்", "இருபத்து", "மரம்"]
    )


def test_command(tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(number, ["-l", "ta", "25", "நூற்றி ஐந்து", "--json"])
    assert result.exit_code == 0
    first, second = map(json.loads, result.output.splitlines())
    assert (first["to"], first["text"], first["value"]) == ("words", "இருபத்தைந்து", 25)
    assert (second["to"], second["text"], second["value"]) == ("digits", "105", 105)
    file = tmp_path / "numbers.txt"
    file.write_text("பத்து\nபதினொன்று\n", encoding="utf-8")
    result = runner.invoke(number, ["-l", "ta", str(file)])
    assert result.output == "10\n11\n"
    result = runner.invoke(number, ["-l", "ta", "--to", "text", "-"], input="பத்து மரம்\n")
    assert result.output == "10 மரம்\n"
    assert runner.invoke(number, ["-l", "ta", "மரம்", "3"]).exit_code == 1


@pytest.mark.parametrize(
    "written, words",
    [
        ("1/2", "அரை"),
        ("2 1/2", "இரண்டரை"),
        ("3/4-க்கு", "முக்காலுக்கு"),
        ("¾-க்கு", "முக்காலுக்கு"),
        ("₹1,250.50", "ஆயிரத்து இருநூற்று ஐம்பது ரூபாய் ஐம்பது பைசா"),
        ("50%-க்கு", "ஐம்பது சதவீதத்துக்கு"),
        ("5:30", "ஐந்தரை மணி"),
    ],
)
def test_the_command_says_fractions_money_shares_and_times(written: str, words: str) -> None:
    result = CliRunner().invoke(number, ["-l", "ta", written])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == words


def test_the_command_writes_money_and_shares() -> None:
    result = CliRunner().invoke(
        number, ["-l", "ta", "நூறு ரூபாய்", "ஐம்பது சதவீதம்", "நூறு ரூபாய் வேண்டும்"]
    )
    assert result.exit_code == 1
    assert result.stdout.split("\n")[:2] == ["₹100", "50%"]


@pytest.mark.parametrize("token", ["5/7", "1/0", "1/2/3"])
def test_quotients_without_a_word_are_no_numbers(tamil: NumberGrammar, token: str) -> None:
    with pytest.raises(ScriptError):
        tamil.read(token)


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    home = tmp_path / "ta" / "numbers"
    home.mkdir(parents=True)
    for path in (LANGUAGE_DATA / "ta" / "numbers").glob("*.tsv"):
        (home / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    lines = (home / "numerals.tsv").read_text(encoding="utf-8").splitlines()
    lines.insert(1, "seven\tஏழு\twhole")
    (home / "numerals.tsv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"numerals\.tsv:2: value 'seven'"):
        NumberGrammar("ta", tmp_path)
