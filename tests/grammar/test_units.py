"""Units of every kind: words join back from them, files keep them, the peers cut alike."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from uyir.cli import main
from uyir.errors import DataError
from uyir.grammar.join import join
from uyir.grammar.script import HIATUS, compose, load_script
from uyir.grammar.unit_training import morfessor_model, train_units, word_counts
from uyir.grammar.units import (
    KINDS,
    UNKNOWN,
    Atoms,
    CostUnits,
    MergeUnits,
    WordUnits,
    read_units,
    spoken_sentences,
    unspoken_words,
    write_units,
)

LANGUAGES = ("ta", "kn")
ROOTS = {
    "ta": ["மரம்", "வீடு", "பறவை", "படி", "கண்", "நகர்", "மனம்", "பிஎஸ்ஏ", "ஓடு", "எழுது"],
    "kn": ["ಮರ", "ಮನೆ", "ಹುಡುಗ", "ಓದು", "ನಗರ", "ಕಣ್ಣು", "ಬಾಗಿಲು", "ನೀರು", "ಫ಼ೋನ್", "ಐಎಎಸ್"],
}
ENDINGS = {"ta": ["", "கள்", "களில்", "க்கு", "தான்"], "kn": ["", "ಗಳು", "ಗಳಲ್ಲಿ", "ಗೆ", "ದಲ್ಲಿ"]}


def counts(language: str) -> dict[str, int]:
    rng = random.Random(4)
    return {
        root + ending: rng.randint(1, 30)
        for root in ROOTS[language]
        for ending in ENDINGS[language]
    }


def random_words(language: str, seed: int, count: int = 300) -> list[str]:
    """Well-formed words of random letters: none was trained on."""
    script = load_script(language)
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        letters = rng.choice(sorted(script.vowels))
        for _ in range(rng.randint(0, 8)):
            consonant = rng.choice(sorted(script.consonants))
            if script.nukta and rng.random() < 0.1:
                consonant += script.nukta
            letters += consonant + (HIATUS if rng.random() < 0.1 else "")
            letters += rng.choice(sorted(script.vowels))
        out.append(compose(letters, language))
    return out


@pytest.mark.parametrize("language", LANGUAGES)
def test_atoms_spell_every_word(language: str) -> None:
    atoms = Atoms(language)
    for word in [*counts(language), *random_words(language, 1)]:
        assert atoms.word(atoms.of(word)) == word
        # Cut anywhere, the parts can be written, and are read as what they were.
        for place in range(1, len(atoms.of(word))):
            for part in (atoms.of(word)[:place], atoms.of(word)[place:]):
                assert atoms.of(atoms.word(part)) == part, (word, place)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_words_join_back_from_their_units(kind: str, language: str, tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    pytest.importorskip("morfessor")
    seen = counts(language)
    units = train_units(kind, language, seen, 30)
    words = [*seen, *random_words(language, 2, 50)]
    cut = units.segment_all(words)
    for word, pieces in zip(words, cut):
        if pieces != (UNKNOWN,):
            assert join(pieces, language) == word
            assert all(p.startswith("+") == (i > 0) for i, p in enumerate(pieces))
            assert all(p.endswith("+") == (i + 1 < len(pieces)) for i, p in enumerate(pieces))
    unknown = [word for word, pieces in zip(words, cut) if pieces == (UNKNOWN,)]
    assert bool(unknown) == (kind == "word")
    path = tmp_path / "units.tsv"
    write_units(path, units)
    again = read_units(path)
    assert (again.kind, again.language) == (kind, language)
    assert again.segment_all(words) == cut
    assert sorted(again.pieces()) == sorted(units.pieces())


def test_word_units_are_the_commonest() -> None:
    units = train_units("word", "ta", {"மரம்": 3, "வீடு": 5, "கண்": 1}, 2)
    assert list(units.pieces()) == ["வீடு", "மரம்"]
    assert units.segment_all(["கண்", "மரம்"]) == [(UNKNOWN,), ("மரம்",)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_bpe_cuts_as_sentencepiece_does(language: str, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    atoms = Atoms(language)
    seen = {atoms.of(word): n for word, n in counts(language).items()}
    (tmp_path / "words.tsv").write_text(
        "".join(f"{w}\t{n}\n" for w, n in seen.items()), encoding="utf-8"
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "words.tsv"),
        input_format="tsv",
        model_prefix=str(tmp_path / "m"),
        model_type="bpe",
        vocab_size=60,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    merges = [p for p in pieces if len(p) > 1 and not p.startswith("<")]
    ours = MergeUnits(language, {piece: float(i) for i, piece in enumerate(merges)})
    for word in seen:
        assert list(ours.cut(word)) == model.encode(word, out_type=str)


def test_morfessor_cuts_as_morfessor_does() -> None:
    pytest.importorskip("morfessor")
    atoms = Atoms("ta")
    units = train_units("morfessor", "ta", counts("ta"), 30)
    assert isinstance(units, CostUnits)
    model = morfessor_model([atoms.of(word) for word in counts("ta")], 30)
    for word in counts("ta"):
        letters = atoms.of(word)
        theirs, _ = model.viterbi_segment(letters, addcount=0)
        assert list(units.cut(letters)) == theirs


@pytest.mark.parametrize("estimator", ["ml", "viterbi"])
def test_extended_bpe_cuts_no_dearer_than_bpe(estimator: str) -> None:
    pytest.importorskip("sentencepiece")
    seen = counts("ta")
    extended = train_units("bpe-extended", "ta", seen, 30, estimator=estimator)
    assert isinstance(extended, CostUnits)
    assert sum(len(piece) > 1 for piece in extended.costs) <= 30
    bpe = train_units("bpe", "ta", seen, 30)
    length = {
        units.kind: sum(seen[w] * len(p) for w, p in zip(seen, units.segment_all(list(seen))))
        for units in (bpe, extended)
    }
    assert length["bpe-extended"] <= 1.1 * length["bpe"]


def test_one_cleaning_for_all(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text(
        "மரம் வீடு. abc கண்\nமரம் 12e கண்\nமரம் 25-க்கு கண்\nபறவை கண் மரம் வீடு படி ஓடு எழுது\nகண்\n",
        encoding="utf-8",
    )
    held = tmp_path / "held"
    held.write_text("பறவை கண் மரம் வீடு படி ஓடு", encoding="utf-8")
    assert spoken_sentences([text], "ta", [held]) == [
        ["மரம்", "வீடு"],
        ["மரம்", "இருபத்தைந்துக்கு", "கண்"],
        ["கண்"],
    ]
    assert word_counts([["மரம்", "கண்"], ["கண்"]]) == {"மரம்": 1, "கண்": 2}


def test_endings_after_digits_are_not_spoken() -> None:
    # "in (1947)": written apart, after a number whose digits are not words.
    assert unspoken_words(["ஆம்", "மரம்", "இல்"], "ta") <= {"ஆம்", "இல்"}
    assert "ರಲ್ಲಿ" in unspoken_words(["ರಲ್ಲಿ", "ಮರ"], "kn")
    assert "ಮರ" not in unspoken_words(["ರಲ್ಲಿ", "ಮರ"], "kn")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1: not a table of units"),
        ("# uyir units\tsounds\tta\n", ":1: not a table of units"),
        ("# uyir units\tbpe\tta\n", "without a piece"),
        ("# uyir units\tbpe\tta\nமர\n", ":2: "),
        ("# uyir units\tbpe\tta\nமர\tx\n", ":2: "),
        ("# uyir units\tbpe\tta\nಮರ\t1\n", ":2: "),
        ("# uyir units\tbpe\txx\nமர\t1\n", "unknown language"),
        ("# uyir units\tbpe\tta\nமர\tinf\n", ":2: want piece, tab, cost"),
    ],
)
def test_damaged_tables(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "units.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_units(path)


def test_bad_choices() -> None:
    with pytest.raises(DataError, match="want one of word, bpe"):
        train_units("syllable", "ta", {"மரம்": 1})
    with pytest.raises(DataError, match="empty text"):
        train_units("word", "ta", {})
    with pytest.raises(DataError, match="want one of ml, viterbi"):
        train_units("bpe-extended", "ta", {"மரம்": 1}, estimator="map")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, table = tmp_path / "text", tmp_path / "units.tsv"
    text.write_text("மரம் வீடு\nமரம் abc\nமரம் கண்\n", encoding="utf-8")
    assert (
        main(
            ["units", "train", "-l", "ta", "-k", "word", "--size", "2", "-o", str(table), str(text)]
        )
        == 0
    )
    units = read_units(table)
    assert isinstance(units, WordUnits) and len(units.words) == 2
    capsys.readouterr()
    assert main(["units", "segment", str(table), str(text)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["மரம் <unk>", "மரம் கண்"] or lines == ["மரம் வீடு", "மரம் <unk>"]
    (tmp_path / "empty").write_text("", encoding="utf-8")
    assert (
        main(["units", "train", "-l", "ta", "-k", "bpe", "-o", str(table), str(tmp_path / "empty")])
        == 1
    )
    assert "empty text" in capsys.readouterr().err
