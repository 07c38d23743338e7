"""A third language, Telugu, made as CONTRIBUTING.md says: tables alone, beside a copy of the code as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import uyir
import uyir.grammar.lists
import uyir.lexicon.symbols

#: A Telugu letter is 0x80 before the Kannada one that sounds alike; æ, ǣ and ೞ are Kannada's own.
SHIFT = {code: code - 0x80 for code in range(0x0C80, 0x0CDE)}
KANNADA_ONLY = "æǣೞ಼"

TABLES = {
    "rules.tsv": """rule	pattern	replacement	note
am_to_aa	అం	ఆ	పుస్తకం → పుస్తకా(లు)
yu_to_sh	యఉ	శ	చేయు → చేశ్(ఆడు)
yu_to_st	యఉ	సత	చేయు → చేస్త్(ఆడు)
drop_u	ఉ		చేయు → చేయ్(అడు)
""",
    "sandhi.tsv": """rule	left	right	left_out	right_out	at	note
sunna_m	ం	{vowel}	మ	=	x.n c.*	పుస్తకం + ఏ → పుస్తకమే
drop_short	[ఉఇ]	{vowel}		=	x.n c.*	చెట్టు + ఏ → చెట్టే
glide_n	{long}	{vowel}	=	న\\g<0>	c.*	ఇంటిలో + ఏ → ఇంటిలోనే
""",
    "states.tsv": """state	includes	note
x.n	n.loc c.cl	after a bare noun
""",
    "open.tsv": """state	pattern	weight	min	note
n.loc	{consonant}	1	4	loans
""",
    "nouns/stems.tsv": """class	rule	next	features	note
n.am	same	# x.n
n.am	am_to_aa	n.aa n.pl
n.i	same	# x.n n.e n.pl
n.u	same	# x.n n.uu n.pl
""",
    "nouns/prefix.tsv": """form	class	next	gloss	features	weight	note
పుస్తకం	n.am		book
అబ్బాయి	n.i		boy
చెట్టు	n.u		tree
""",
    "nouns/suffix.tsv": """form	class	next	gloss	features	weight	note
లు	n.pl	# c.cl	PL	number=pl
ల	n.pl	# n.loc n.uu	PL.OBL	number=pl
లో	n.loc	# c.cl	LOC	case=loc
తో	n.loc	# c.cl	COM	case=com
నికి	n.aa	# c.cl	DAT	case=dat
కి	n.e	# c.cl	DAT	case=dat
కు	n.uu	# c.cl	DAT	case=dat
ని	n.e	# c.cl	ACC	case=acc
ను	n.uu	# c.cl	ACC	case=acc
""",
    "verbs/stems.tsv": """class	rule	next	features	note
v.yu	same	#
v.yu	yu_to_sh	v.fin	tense=pst
v.yu	yu_to_st	v.fin	tense=npst
v.yu	drop_u	v.b
""",
    "verbs/prefix.tsv": """form	class	next	gloss	features	weight	note
చేయు	v.yu		do
రాయు	v.yu		write
""",
    "verbs/infix.tsv": """form	class	next	gloss	features	weight	note
అడం	v.b	=n.am	NMLZ
""",
    "verbs/suffix.tsv": """form	class	next	gloss	features	weight	note
ఆడు	v.fin	#	3SG.M
ఆరు	v.fin	# c.cl	3PL
అడు	v.b	#	NEG.3SG.M
""",
    "other/prefix.tsv": """form	class	next	gloss	features	weight	note
మరియు		#	and
""",
    "other/suffix.tsv": """form	class	next	gloss	features	weight	note
ఏ	c.cl	#	EMPH	clitic=emph
""",
    "numbers/scales.tsv": """scale	value	note
hundred	100	వంద
ten	10
unit	1
""",
    "numbers/numerals.tsv": """value	form	roles	weight	features	note
1	ఒకటి	whole
1	ఒక	count
2	రెండు	whole count
3	మూడు	whole count
10	పది	whole
20	ఇరవై	whole link
30	ముప్పై	whole link
*100	వంద	whole
*100	వందల	link
""",
    "numbers/seams.tsv": """rule	at	left	right	left_out	space	right_out	weight	note
apart	ten.link hundred.link hundred.count			=	yes	=	0	ఇరవై రెండు
together	whole.end			=	no	=	0	రెండులో
""",
    "numbers/endings.tsv": """form	class	next	written	weight	note
లో	whole	#
""",
}

CUTS = {
    "పుస్తకం": "పుస్తకం",
    "పుస్తకాలు": "పుస్తకా+ +లు",
    "పుస్తకాలలోనే": "పుస్తకా+ +ల+ +లో+ +నే",
    "పుస్తకమే": "పుస్తకమ్+ +ఏ",
    "అబ్బాయికి": "అబ్బాయి+ +కి",
    "చెట్టే": "చెట్ట్+ +ఏ",
    "చేశాడు": "చేశ్+ +ఆడు",
    "రాస్తారు": "రాస్త్+ +ఆరు",
    "చేయడానికి": "చేయ్+ +అడా+ +నికి",
    "మరియు": "మరియు",
}


def telugu(kannada: str) -> str:
    return kannada.translate(SHIFT)


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, run from a copy of the code to which only Telugu's tables were added."""
    home = tmp_path_factory.mktemp("third")
    site = home / "uyir"
    package = Path(uyir.__file__).parent
    grammar = Path(uyir.grammar.lists.__file__).parent
    lexicon = Path(uyir.lexicon.symbols.__file__).parent
    site.mkdir()
    for file in package.glob("*.py"):
        shutil.copy(file, site)
    for name, folder in (("grammar", grammar), ("lexicon", lexicon)):
        shutil.copytree(folder, site / name, ignore=shutil.ignore_patterns("__pycache__"))

    # 1. letters; 2. lists; 4. numbers
    te = site / "grammar" / "te"
    for name, text in TABLES.items():
        (te / name).parent.mkdir(parents=True, exist_ok=True)
        (te / name).write_text(text, encoding="utf-8")
    script = (grammar / "kn" / "script.tsv").read_text(encoding="utf-8").splitlines()
    (te / "script.tsv").write_text(
        "".join(telugu(line) + "\n" for line in script if line[0] not in KANNADA_ONLY),
        encoding="utf-8",
    )
    # 3. pronunciation, and the language's column of the phones
    (site / "lexicon" / "te").mkdir()
    for name in ("classes.tsv", "rules.tsv", "exceptions.tsv"):
        lines = (lexicon / "kn" / name).read_text(encoding="utf-8").splitlines()
        if name == "exceptions.tsv":
            lines = lines[:1]
        kept = [
            line for line in lines if name == "classes.tsv" or not set(line) & set(KANNADA_ONLY)
        ]
        text = "".join(telugu(line) + "\n" for line in kept)
        for letter in KANNADA_ONLY:
            text = text.replace(f" {letter}", "")
        (site / "lexicon" / "te" / name).write_text(text, encoding="utf-8")
    phones = []
    for line in (lexicon / "phones.tsv").read_text(encoding="utf-8").splitlines():
        cells = line.split("\t")
        if not line.startswith("#"):
            cells[4:4] = ["te" if cells[3] == "kn" else cells[3]]
        phones.append("\t".join(cells) + "\n")
    (site / "lexicon" / "phones.tsv").write_text("".join(phones), encoding="utf-8")
    # 5. the name
    with (site / "grammar" / "languages.tsv").open("a", encoding="utf-8") as names:
        names.write("te\tTelugu\n")

    environment = {**os.environ, "PYTHONPATH": str(home), "UYIR_CACHE": str(home / "cache")}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "uyir", *arguments],
            cwd=home,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done

    return command


def test_lists_are_sound(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert run("grammar", "check", "--language", "te").stdout == "te: lists are sound\n"


def test_words_are_cut_and_joined(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    lines = run("segment", "-l", "te", "--json", *CUTS).stdout.splitlines()
    cut = [json.loads(line) for line in lines]
    assert {c["word"]: " ".join(m["marked"] for m in c["morphemes"]) for c in cut} == CUTS
    assert all(c["closed"] for c in cut)
    for word, pieces in CUTS.items():
        assert run("join", "-l", "te", *pieces.split()).stdout.split() == [word]


def test_unknown_roots_and_wrong_forms(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    words = ("కంప్యూటర్లో", "పుస్తకంలు", "చేశడు")
    cut = [json.loads(x) for x in run("segment", "-l", "te", "--json", *words).stdout.splitlines()]
    assert [c["closed"] for c in cut] == [False, False, False]
    assert [m["form"] for m in cut[0]["morphemes"]] == ["కంప్యూటర్", "లో"]


def test_words_are_pronounced_and_numbers_read(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    spoken = run("pronounce", "--language", "te", "చేశాడు").stdout.split("\t")
    assert spoken[:2] == ["చేశాడు", "c ee sh aa dx u"]
    assert run("number", "-l", "te", "232").stdout.split("\t")[-1].strip() == "రెండు వందల ముప్పై రెండు"
