"""Coverage of texts and the roots that they bear out."""

from __future__ import annotations

from uyir.grammar.coverage import attested_roots, measure, unattested_roots
from uyir.grammar.morphotactics import Grammar
from uyir.grammar.segment import Segmenter


def test_shares_of_tokens_and_types(toy: Grammar) -> None:
    segmenter = Segmenter(toy)
    counts = {"மரம்": 5, "மரத்தை": 2, "வீட்டில்": 1, "ரெட்டிக்கு": 2}
    report, refused = measure(segmenter, counts, attested_roots(segmenter, ["மரத்துக்கு"]))
    assert report == {
        "words": {"tokens": 10, "types": 4},
        "closed": {
            "tokens": 0.8,
            "types": 0.75,
            "tokens_with_affix": 0.3,
            "tokens_without_affix": 0.5,
        },
        "open": {"tokens": 1.0, "types": 1.0},
        "known_roots": {"tokens": 0.7, "types": 0.5},
    }
    assert dict(refused) == {"ரெட்டிக்கு": 2}
    assert "known_roots" not in measure(segmenter, counts)[0]


def test_roots_without_an_attested_form(toy: Grammar) -> None:
    missing = unattested_roots(Segmenter(toy), ["மரத்தை", "தம்பிக்கு", "ரெட்டிக்கு"])
    assert [entry.form for entry in missing] == ["வீடு"]
