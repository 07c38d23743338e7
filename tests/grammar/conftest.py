"""A toy language: six rules and ten entries that use every part of the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from uyir.grammar.morphotactics import Grammar, compile_grammar

TABLES = {
    "rules.tsv": """rule	pattern	replacement	note
am_to_att	அம	அதத	oblique of neuter nouns
double_stop	([டற])உ	\\1\\1	oblique
""",
    "sandhi.tsv": """rule	left	right	left_out	right_out	at	note
glide_y	{front}	{vowel}	=	ய\\g<0>	n.* c.*	after front vowels
drop_u	உ	{vowel}		=	n.nom c.*	before a clitic
glide_v	{vowel}	{vowel}	=	வ\\g<0>	n.* c.*	after the others
link_u	{consonant}	கக	=	உ\\g<0>	n.obl	dative after a consonant
""",
    "states.tsv": """state	includes	note
n.nom	c.clitic	a bare noun takes clitics
""",
    "open.tsv": """state	pattern	weight	min	note
n.vow	{front}	0	2	unknown noun in a front vowel
""",
    "nouns/stems.tsv": """class	rule	next	features	note
n.am	same	# n.nom	number=sg
n.am	am_to_att	n.obl	number=sg
n.du	same	# n.nom	number=sg
n.du	double_stop	n.obl	number=sg
n.i	same	# n.nom n.vow	number=sg
""",
    "nouns/prefix.tsv": """form	class	next	gloss	features	weight	note
மரம்	n.am		tree
வீடு	n.du		house
தம்பி	n.i		younger brother
""",
    "nouns/suffix.tsv": """form	class	next	gloss	features	weight	note
ஐ	n.obl n.vow	# c.clitic	ACC	case=acc
க்கு	n.obl n.vow	# c.clitic	DAT	case=dat
இல்	n.obl n.vow	# c.clitic	LOC	case=loc
உம்	c.clitic	#	and
""",
}


@pytest.fixture
def toy_lists(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Writes the toy language's lists, some of them changed, and says in which folder they are."""

    def write(changes: dict[str, str]) -> Path:
        for name, text in {**TABLES, **changes}.items():
            path = tmp_path / "ta" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture
def toy(toy_lists: Callable[[dict[str, str]], Path]) -> Grammar:
    return compile_grammar("ta", data=toy_lists({}))
