"""The demo: its recordings are what they claim to be, and its report says what happened."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import soundfile

from uyir import LANGUAGES, cli, demo
from uyir.decode.transcribe import MODELS
from uyir.errors import DataError

RESERVED_VOICES = {"klatt5", "Andrea", "Michael", "grandpa", "female4", "Diogo"}
needs_model = pytest.mark.skipif(
    not list(MODELS.glob("*/config.json")), reason="no model is bundled in uyir/models"
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_recordings_are_whole(language: str) -> None:
    items = demo.recordings(language)
    assert len(items) >= 10
    assert len({item.ref for item in items}) == len(items)
    assert {item.voice for item in items} <= RESERVED_VOICES
    assert sum(len(item.novel) for item in items) >= 6
    assert {path.stem for path in (demo.RECORDINGS / language).glob("*.flac")} == {
        item.id for item in items
    }
    block = {"ta": "\u0b80-\u0bff", "kn": "\u0c80-\u0cff"}[language]
    for item in items:
        assert re.fullmatch(f"[{block} ]+", item.ref), item.ref
        assert set(item.novel) <= set(item.ref.split())
        about = soundfile.info(item.path)
        assert (about.samplerate, about.channels, about.format) == (16000, 1, "FLAC")
        assert 1.0 < about.duration < 10.0
        assert item.path.stat().st_size < 100_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_grammar_cuts_most_novel_words_and_joins_them_again(language: str) -> None:
    from uyir.grammar.join import join
    from uyir.grammar.segment import load_segmenter

    segmenter = load_segmenter(language)
    novel = [word for item in demo.recordings(language) for word in item.novel]
    analyses = [segmenter.segment(word) for word in novel]
    for word, analysis in zip(novel, analyses):
        assert join([piece.marked for piece in analysis.subwords], language) == word
    assert sum(analysis.closed for analysis in analyses) >= 0.75 * len(novel)


def recording(ref: str, *novel: str) -> demo.Recording:
    return demo.Recording("ta01", "ta", "klatt5", Path("ta01.flac"), ref, novel)


def test_a_comparison_counts_words_letters_and_novel_words() -> None:
    right = demo.compare(recording("மழை பெய்தது", "பெய்தது"), "மழை பெய்தது", ["மழை", "பெய்+", "+தது"])
    wrong = demo.compare(recording("மழை பெய்தது", "பெய்தது"), "மழை பெய்து", ["மழை", "பெய்து"])
    assert (right.wer, right.cer, right.recognised) == (0.0, 0.0, ("பெய்தது",))
    assert (wrong.wer, wrong.recognised) == (0.5, ())
    assert 0.0 < wrong.cer < 0.5
    both = demo.total([right, wrong])
    assert (both.wer, both.words, both.novel, both.recognised) == (0.25, 4, 2, 1)


def test_novel_words_are_starred_and_judged() -> None:
    missed = demo.compare(recording("மழை பெய்தது", "பெய்தது"), "மழை", ["மழை"])
    text = demo.describe(missed)
    assert "ref       மழை *பெய்தது*" in text
    assert "hyp       மழை\n" in text
    assert "பெய்தது: missed" in text


def test_the_last_lines_are_the_rates() -> None:
    totals = {
        "ta": demo.Total(wer=0.05, cer=0.0123, words=74, novel=8, recognised=6),
        "kn": demo.Total(wer=0.1, cer=0.02, words=70, novel=8, recognised=7),
    }
    found = demo.Demo((), totals, "kaldi", "m", 2, audio_s=98.9, load_s=2.0, search_s=9.9, rtf=0.1)
    assert demo.summary(found).splitlines()[-2:] == [
        "ta WER 0.050 CER 0.012",
        "kn WER 0.100 CER 0.020",
    ]


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "ta").mkdir()
    (tmp_path / "ta" / "reference.tsv").write_text("id\ttext\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"reference\.tsv:1: "):
        demo.recordings("ta", tmp_path)


def test_unknown_language_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--language", "te"]) == 2
    assert "te" in capsys.readouterr().err


@needs_model
def test_the_bundled_model_recognises_the_bundled_recordings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With k2 in its own lane, with kaldi in the other, and without Pynini: the README's claims."""
    from uyir.decode.engines import available

    for name in ("pynini", "pywrapfst", "_pywrapfst"):
        monkeypatch.setitem(sys.modules, name, None)
    engine = "k2" if available()["k2"] is None else "kaldi"
    assert cli.main(["demo", "--json", "--engine", engine]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine"] == engine
    for key in found:
        assert f"``{key}``" in (demo.__doc__ or ""), f"{key} is not documented"
    assert len(found["utterances"]) == sum(len(demo.recordings(name)) for name in LANGUAGES)
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for language in LANGUAGES:
        claimed = re.search(rf"^{language} WER ([0-9.]+) CER ([0-9.]+)$", readme, re.MULTILINE)
        assert claimed, "the README shows what make demo ends with"
        # Engines and processors differ in the last bits; one word is 0.014.
        assert abs(found["totals"][language]["wer"] - float(claimed[1])) < 0.03
        assert found["totals"][language]["wer"] < 0.15
        assert found["totals"][language]["recognised"] >= 1


@pytest.mark.skipif(not (MODELS / "small").is_dir(), reason="no model small is bundled")
def test_the_small_model_recognises_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, with the graphs of the default one, and it is small."""
    assert cli.main(["demo", "--json", "--model", "small", "--engine", "kaldi"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "small"
    for language in LANGUAGES:
        assert found["totals"][language]["wer"] < 0.15
        assert found["totals"][language]["recognised"] >= 3
    weights = [path.stat().st_size for path in (MODELS / "small").iterdir()]
    assert sum(weights) < 4_000_000
    config = json.loads((MODELS / "small/config.json").read_text(encoding="utf-8"))
    assert config["graphs"] == "base"
    assert not list((MODELS / "small").glob("*/HLG*"))
