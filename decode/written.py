"""The written form of what was recognised: numbers, money, shares, times and dates in digits, where the
grammar is sure of them."""

from __future__ import annotations

from dataclasses import replace

from uyir.decode.transcript import Segment


def written(segment: Segment, language: str) -> Segment:
    """A segment with what `uyir.grammar.written` writes in digits; times and spoken words stay.

    The first word of a number, a price, a time of day has the whole as `SpokenWord.written`, the others have an
    empty one. Raises `DataError` if the language has no number tables.
    """
    from uyir.grammar.written import WrittenGrammar

    words = list(segment.words)
    for span in WrittenGrammar.load(language).spans([word.word for word in words]):
        for place in range(span.start, span.end):
            text = span.text if place == span.start else ""
            words[place] = replace(words[place], written=text)
    text = " ".join(word.shown for word in words if word.shown)
    return replace(segment, words=tuple(words), text=text)
