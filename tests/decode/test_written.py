from __future__ import annotations

import pytest

from uyir.decode.transcript import Segment, SpokenWord
from uyir.decode.written import written


@pytest.mark.parametrize(
    ("language", "text", "shown"),
    [
        ("ta", "அவன் இருபத்து ஐந்து பேர்", "அவன் 25 பேர்"),
        ("ta", "அவன் வந்தான்", "அவன் வந்தான்"),
        ("ta", "நூறு ரூபாய்க்கு ஐந்தரை மணிக்கு", "₹100-க்கு 5:30 மணிக்கு"),
        ("kn", "ಶೇಕಡಾ ಹತ್ತು ಮತ", "10% ಮತ"),
    ],
)
def test_numbers_become_digits_and_the_spoken_words_stay(language, text, shown):
    words = tuple(SpokenWord(w, i, i + 0.5, 0.9, None, ()) for i, w in enumerate(text.split()))
    found = written(Segment(0, 9, text, words, 0.9, True), language)
    assert found.text == shown
    assert [word.word for word in found.words] == text.split()
    assert [(w.start, w.end) for w in found.words] == [(w.start, w.end) for w in words]


def test_both_languages_have_numbers():
    for language in ("ta", "kn"):
        assert written(Segment(0, 1, "", (), 0.0, True), language).text == ""
