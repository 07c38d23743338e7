"""Money, shares, times of day, dates and years in written form, with a grammarian's examples."""

from __future__ import annotations

import random

import pytest

from uyir.errors import DataError, ScriptError
from uyir.grammar.written import WrittenGrammar, grouped

SURE = {
    "ta": [
        # money
        ("நூறு ரூபாய்", "₹100"),
        ("நூறு ரூபாய்க்கு வாங்கினான்", "₹100-க்கு வாங்கினான்"),
        ("ஐந்தாயிரம் ரூபாயை", "₹5,000-ஐ"),
        ("ஒரு லட்சம் ரூபாய்", "₹1,00,000"),
        ("ஒரு கோடியே இருபது லட்சம் ரூபாய்", None),
        ("மூன்றரை லட்சம் ரூபாய்", "₹3,50,000"),
        ("ஐந்து ரூபாய் ஐம்பது பைசா", "₹5.50"),
        ("பத்து ரூபாய் ஐந்து காசு", "₹10.05"),
        ("ஐம்பது பைசா", "50 பைசா"),
        # shares
        ("ஐம்பது சதவீதம்", "50%"),
        ("பத்து சதவிகிதத்தில்", "10%-இல்"),
        ("இருபது விழுக்காடு", "20%"),
        # times of day
        ("எட்டு மணி", "8 மணி"),
        ("ஐந்தரை மணிக்கு வந்தான்", "5:30 மணிக்கு வந்தான்"),
        ("ஐந்தேகால் மணிக்கு", "5:15 மணிக்கு"),
        ("ஐந்தே முக்கால் மணி", "5:45 மணி"),
        ("பன்னிரண்டரை மணிக்கு", "12:30 மணிக்கு"),
        ("பத்து மணி முப்பது நிமிடத்துக்கு", "10:30-க்கு"),
        ("ஒரு மணிக்கு வா", "1 மணிக்கு வா"),
        # dates, years, ordinals
        ("மார்ச் ஐந்தாம் தேதி", "மார்ச் 5-ஆம் தேதி"),
        ("ஐந்தாம் தேதியன்று", "5-ஆம் தேதியன்று"),
        ("முதலாம் தேதி", "1-ஆம் தேதி"),
        ("முப்பத்தோராம் தேதி", "31-ஆம் தேதி"),
        ("பதினோராம் வகுப்பு", "11-ஆம் வகுப்பு"),
        ("இருபத்தோராவது", "21-ஆவது"),
        ("ஓர் ஆண்டு", "ஓர் ஆண்டு"),
        ("மார்ச் ஆறு", "மார்ச் 6"),
        ("ஆயிரத்து தொள்ளாயிரத்து தொண்ணூறாம் ஆண்டு", "1990-ஆம் ஆண்டு"),
        ("பத்தொன்பது எண்பத்தைந்தாம் ஆண்டு", "1985-ஆம் ஆண்டு"),
        ("இரண்டாயிரத்து இருபத்து நான்கில்", "2024-இல்"),
        # plain
        ("பத்து லட்சத்து ஐம்பதாயிரம் பேர்", "10,50,000 பேர்"),
        ("ஆறு பேர் வந்தனர்", "6 பேர் வந்தனர்"),
    ],
    "kn": [
        ("ನೂರು ರೂಪಾಯಿ", "₹100"),
        ("ನೂರು ರೂಪಾಯಿಗೆ ಕೊಂಡ", "₹100-ಗೆ ಕೊಂಡ"),
        ("ಒಂದು ಲಕ್ಷ ರೂಪಾಯಿ", "₹1,00,000"),
        ("ಎರಡೂವರೆ ಲಕ್ಷ ರೂಪಾಯಿಯನ್ನು", "₹2,50,000-ಅನ್ನು"),
        ("ಐದು ರೂಪಾಯಿ ಐವತ್ತು ಪೈಸೆ", "₹5.50"),
        ("ಶೇಕಡಾ ಹತ್ತು", "10%"),
        ("ಶೇಕಡಾ ಹತ್ತರಷ್ಟು", "10%-ರಷ್ಟು"),
        ("ಐವತ್ತು ಪ್ರತಿಶತ", "50%"),
        ("ಐದು ಗಂಟೆ", "5 ಗಂಟೆ"),
        ("ಐದೂವರೆ ಗಂಟೆಗೆ", "5:30 ಗಂಟೆಗೆ"),
        ("ಐದೂಕಾಲು ಗಂಟೆಗೆ", "5:15 ಗಂಟೆಗೆ"),
        ("ಐದೂ ಮುಕ್ಕಾಲು ಗಂಟೆಗೆ", "5:45 ಗಂಟೆಗೆ"),
        ("ಹತ್ತು ಗಂಟೆ ಮೂವತ್ತು ನಿಮಿಷಕ್ಕೆ", "10:30-ಕ್ಕೆ"),
        ("ಒಂದು ಗಂಟೆಗೆ ಬಾ", "1 ಗಂಟೆಗೆ ಬಾ"),
        ("ಮಾರ್ಚ್ ಐದನೇ ತಾರೀಖು", "ಮಾರ್ಚ್ 5-ನೇ ತಾರೀಖು"),
        ("ಐದನೆಯ ತಾರೀಖಿನಂದು", "5-ನೆಯ ತಾರೀಖಿನಂದು"),
        ("ಮೊದಲನೇ ತಾರೀಖು", "1-ನೇ ತಾರೀಖು"),
        ("ಸಾವಿರದ ಒಂಬೈನೂರ ತೊಂಬತ್ತರಲ್ಲಿ", "1990-ರಲ್ಲಿ"),
        ("ಆರು ಮಂದಿ", "6 ಮಂದಿ"),
    ],
}
#: The grammar is not sure: nothing changes, or the number alone.
UNSURE = {
    "ta": [
        ("ஒரு மரம்", "ஒரு மரம்"),
        ("ஒரு ரூபாய் கூட இல்லை", "ஒரு ரூபாய் கூட இல்லை"),
        ("ஒரு மணி நேரம்", "ஒரு மணி நேரம்"),
        ("ஒன்று சேர்ந்து வந்தனர்", "ஒன்று சேர்ந்து வந்தனர்"),
        ("ஆறு ஓடுகிறது", "ஆறு ஓடுகிறது"),
        ("முதலாவதாக அவன் பேசினான்", "முதலாவதாக அவன் பேசினான்"),
        ("ஜனவரி முதல்", "ஜனவரி முதல்"),
        ("கால் வலிக்கிறது", "கால் வலிக்கிறது"),
        ("அரை மணி நேரம்", "அரை மணி நேரம்"),
        ("இரண்டரை மணி நேரம்", "2½ மணி நேரம்"),
        ("ஐந்து மணி நேரம் முப்பது நிமிடங்கள்", "5 மணி நேரம் 30 நிமிடங்கள்"),
        ("இருபது மணி முப்பது நிமிடம்", "20 மணி 30 நிமிடம்"),
        ("பத்தொன்பது எண்பத்தைந்து பேர்", "19 85 பேர்"),
        ("", ""),
    ],
    "kn": [
        ("ಒಂದು ಮರ", "ಒಂದು ಮರ"),
        ("ಒಂದು ರೂಪಾಯಿ ಇಲ್ಲ", "ಒಂದು ರೂಪಾಯಿ ಇಲ್ಲ"),
        ("ಏಳು ಬೇಗ", "ಏಳು ಬೇಗ"),
        ("ಕಾಲು ನೋವು", "ಕಾಲು ನೋವು"),
        ("ಅರ್ಧ ಗಂಟೆ", "ಅರ್ಧ ಗಂಟೆ"),
        ("ಎರಡೂವರೆ ಗಂಟೆಗಳ ಕಾಲ", "2½ ಗಂಟೆಗಳ ಕಾಲ"),
        ("ಎರಡು ಗಂಟೆ ಕಾಲ", "2 ಗಂಟೆ ಕಾಲ"),
        ("ಮೊದಲನೆಯದಾಗಿ", "ಮೊದಲನೆಯದಾಗಿ"),
    ],
}


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_what_is_sure_has_its_written_form_and_the_rest_stays(language):
    grammar = WrittenGrammar.load(language)
    for spoken, written in SURE[language] + UNSURE[language]:
        if written is not None:
            assert " ".join(grammar.write(spoken.split())) == written, spoken


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_written_forms_come_back_from_their_words(language):
    grammar = WrittenGrammar.load(language)
    rng = random.Random(3)
    ending = {"ta": "க்கு", "kn": "ಗೆ"}[language]
    tokens = [f"{h}:{m:02d}" for h in range(1, 13) for m in rng.sample(range(1, 60), 6)]
    tokens = [t for t in tokens if t[-2:] not in ("15", "30", "45")]
    for _ in range(200):
        value = rng.randrange(2, 10 ** rng.randrange(1, 9))
        tokens.append("₹" + grouped(str(value), 4) + rng.choice(["", f"-{ending}"]))
        tokens.append("₹" + grouped(str(value), 4) + f".{rng.randrange(1, 100):02d}")
        tokens.append(f"{value}%" if value < 10_000 else grouped(str(value), 5))
    for token in tokens:
        if token.startswith("₹1.") or token == "1%":
            continue  # the article stays a word
        words = grammar.read(token)
        assert " ".join(grammar.write(words.split())) == token, words


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_quarters_are_said_as_quarters(language):
    grammar = WrittenGrammar.load(language)
    for token in ("5:15", "7:30", "12:45"):
        words = grammar.read(token).split()
        assert grammar.write(words)[0] == token and len(words) <= 3


@pytest.mark.parametrize("token", ["13:10", "5:60", "₹", "%", "five"])
def test_what_is_no_written_form_is_refused(token):
    with pytest.raises(ScriptError):
        WrittenGrammar.load("ta").read(token)


def test_groups_are_of_lakhs_and_crores():
    wanted = ["1", "12", "123", "1,234", "12,345", "1,23,456", "12,34,567", "1,23,45,678"]
    assert [grouped(w.replace(",", ""), 4) for w in wanted] == wanted
    assert grouped("1990", 5) == "1990" and grouped("12345.25", 5) == "12,345.25"
    assert grouped("2½", 1) == "2½"


def test_a_bad_table_is_named(tmp_path):
    import shutil

    from uyir.grammar.lists import LANGUAGE_DATA

    shutil.copytree(LANGUAGE_DATA / "ta" / "numbers", tmp_path / "ta" / "numbers")
    path = tmp_path / "ta" / "numbers" / "written.tsv"
    whole = path.read_text()
    path.write_text(whole + "சொல்\tnothing\t\t\n")
    with pytest.raises(DataError, match=r"written\.tsv:\d+.*nothing"):
        WrittenGrammar("ta", tmp_path)
    path.write_text("\n".join(line for line in whole.splitlines() if "currency" not in line))
    with pytest.raises(DataError, match="currency"):
        WrittenGrammar("ta", tmp_path)
