"""The closed grammars against what others made: golden cuts, generated verb forms, UniMorph, corrupted words.

    python benchmarks/grammar_oracles.py golden    -l ta tests/grammar/golden/ta_segments.tsv [--weights FILE]
    python benchmarks/grammar_oracles.py thamizhi  thamizhi-morph/Generated-Verbs [--explained FILE]
    python benchmarks/grammar_oracles.py vettu     [--explained FILE]
    python benchmarks/grammar_oracles.py unimorph  -l kn kan.tsv TEXT... [--explained FILE]
    python benchmarks/grammar_oracles.py corrupt   -l ta TEXT... [--attested TEXT]... [--survivors OUT.tsv]

Each prints one JSON object on stdout. `--rejected OUT.tsv` (thamizhi, vettu, unimorph) writes what the grammar
refuses, with the reason of `--explained`: a TSV `pattern whose reason` (a regular expression for the whole form,
or, if it has a space in it, for `form root note` as they stand there; `theirs` or `ours`; why), the first that
matches counts; for UniMorph a TSV `form lemma features reason` whose reasons begin
with `theirs:` or `ours:`. `golden --wrong OUT.tsv` writes the words that come out otherwise; `--weights`
scores the cuts by a table of `uyir grammar train`.

thamizhi: ThamizhiMorph's files words-C*: each verb is a block of forms of one length, its bare root among them. Besides
all forms whose root is in our lists by its letters: `same_class`, those of verbs that our lists have in the same conjugation
(கதை is strong, its weak namesake is none of ours); `own_forms`, of these not the ones of the causative stem, which is a verb of
its own (செய்வி) that lists do not have, as the grammar makes it; `own_well_formed`, of these the well-formed words.
vettu: the list parseWord_Rajendran.list of the package vettu (peer extra), a verb's forms after its root.
Both count a form where the bare root is a verb root of our lists. unimorph: forms that occur in the texts and
whose lemma our lists have. corrupt: `uyir.grammar.corrupt`, from words of the texts that the grammar accepts;
words of the texts and of `--attested` are left out of what is corrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, Optional

from uyir.errors import DataError, UyirError
from uyir.grammar.corrupt import Corrupter, sample_corruptions
from uyir.grammar.golden import score_golden
from uyir.grammar.lists import read_table
from uyir.grammar.script import is_wellformed, letters_of, normalise
from uyir.grammar.segment import Segmenter, load_segmenter
from uyir.grammar.text import count_words, read_lines
from uyir.grammar.weights import weighted_segmenter


class Form(NamedTuple):
    """A form of an oracle, with the root it is said to be of and a remark."""

    form: str
    root: str
    note: str


def show(report: object) -> None:
    print(json.dumps(report, ensure_ascii=False))


def share(part: int, whole: int) -> Optional[float]:
    return round(part / whole, 4) if whole else None


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path.write_text(
        "".join("\t".join(row) + "\n" for row in [columns, *rows]),
        encoding="utf-8",
    )


# --- the forms of each oracle -------------------------------------------------------------------


def block_length(forms: Sequence[str]) -> int:
    """How many forms each verb of a file has: the published files have paradigms of three sizes."""
    for length in (118, 54, 53):
        if len(forms) % length == 0:
            return length
    raise DataError(f"{len(forms)} forms are no whole number of paradigms (118, 54 or 53 forms)")


#: The conjugation classes of our lists that each of ThamizhiMorph's files conjugates like.
THAMIZHI_CLASSES = {
    "words-C1": "v1 v1u v1v",
    "words-C2": "v5L v5LL",
    "words-C3": "v5l v5ll",
    "words-C4": "v2 v2c v2u",
    "words-C61": "v4",
    "words-C62": "v4k",
    "words-C63": "v4",
    "words-C7": "v5N v5NN",
    "words-C8": "v5n",
    "words-C9": "v6L",
    "words-C10": "v6l v6ll v6nil",
    "words-C12": "v7 v7u",
    "words-C13": "v.aaku",
    "words-C14": "v.kaaN",
    "words-C15": "v.saa",
    "words-C16": "v.vaa",
    "words-C17": "v.vaa",
    "words-C18": "v.saa",
}


def bare_root(forms: Sequence[str]) -> str:
    """The imperative among the forms of one verb: what most of them begin with, final u apart; the longest such."""
    known = {form: letters for form in forms if (letters := letters_of(form, "ta")) is not None}

    def stem(letters: str) -> str:
        return letters[:-1] if letters.endswith("உ") and len(letters) > 2 else letters

    def begun(form: str) -> tuple[int, int]:
        begin = stem(known[form])
        return sum(other.startswith(begin) for other in known.values()), len(begin)

    return max(sorted(known), key=begun) if known else forms[0]


def thamizhi_forms(folder: Path) -> list[Form]:
    """Every form with its verb's bare root."""
    paths = sorted(folder.glob("words-C*"))
    if not paths:
        raise DataError("no files words-C*", folder)
    found = []
    for path in paths:
        forms = [normalise(line, "ta") for line in read_lines(path) if line.strip()]
        length = block_length(forms)
        for i in range(0, len(forms), length):
            block = forms[i : i + length]
            root = bare_root(block)
            found += [Form(form, root, path.name) for form in dict.fromkeys(block)]
    return found


def is_causative(form: Form) -> bool:
    """Whether a form is of the causative stem in -வி, -பி, -ப்பி: a verb of its own (செய்வி), made from the root."""
    return bool(re.match(re.escape(form.root) + r"[ு்]?(?:ப்)?(?:வ|ப)(?:ி|்ி)", form.form))


def vettu_forms() -> list[Form]:
    """The forms in the package's order: after each root of its verb list come the forms of it."""
    spec = importlib.util.find_spec("tamil_tokenizer")
    if spec is None or spec.origin is None:
        raise DataError("vettu is not installed: pip install 'uyir[peers]'")
    data = Path(spec.origin).parent / "data"
    roots = {line.strip() for line in read_lines(data / "ignoreVerb.list")}
    found, root = [], ""
    for line in read_lines(data / "parseWord_Rajendran.list"):
        form = line.strip()
        if form in roots:
            root = form
        if form:
            found.append(Form(form, root, ""))
    return found


def unimorph_forms(path: Path) -> list[Form]:
    found = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            cells = line.split("\t")
            if len(cells) != 3:
                raise DataError("want lemma, form, features", path, number)
            found.append(Form(cells[1], cells[0], cells[2]))
    return found


# --- what is said about what is refused -----------------------------------------------------------


class Reasons:
    """Why the grammar refuses a form: by a table of patterns, or by a table of forms."""

    def __init__(self, path: Optional[Path]) -> None:
        self._patterns: list[tuple[re.Pattern[str], str, str]] = []
        self._forms: dict[str, tuple[str, str]] = {}
        if path is None:
            return
        header = next(line for line in read_lines(path) if line and not line.startswith("#"))
        if header.split("\t")[0] == "pattern":
            for row in read_table(path, ("pattern", "whose", "reason")):
                if row["whose"] not in ("theirs", "ours"):
                    raise row.error(f"whose is {row['whose']!r}, want theirs or ours")
                try:
                    pattern = re.compile(row["pattern"])
                except re.error as error:
                    raise row.error(f"pattern {row['pattern']!r}: {error}") from None
                self._patterns.append((pattern, row["whose"], row["reason"]))
        else:
            for row in read_table(path, ("form", "lemma", "features", "reason")):
                whose, colon, reason = row["reason"].partition(": ")
                if not colon or whose not in ("theirs", "ours"):
                    raise row.error("a reason begins with 'theirs: ' or 'ours: '")
                self._forms[row["form"]] = (whose, reason)

    def of(self, form: Form) -> tuple[str, str]:
        """(theirs, ours or unexplained; reason)."""
        if form.form in self._forms:
            return self._forms[form.form]
        whole = " ".join(form)
        for pattern, whose, reason in self._patterns:
            if pattern.fullmatch(whole if " " in pattern.pattern else form.form):
                return whose, reason
        return "unexplained", ""


def verb_roots(segmenter: Segmenter) -> set[str]:
    return {
        e.form for e in segmenter.grammar.entries if e.category == "verbs" and e.kind == "prefix"
    }


def measure(
    segmenter: Segmenter,
    forms: Sequence[Form],
    reasons: Reasons,
    rejected_to: Optional[Path],
) -> dict[str, object]:
    """Acceptance of distinct (form, root); what is refused is grouped by reason."""
    language = segmenter.language
    accepted = 0
    refused: list[tuple[str, str, str, str, str]] = []
    for form in forms:
        if is_wellformed(form.form, language) and segmenter.accepts(form.form):
            accepted += 1
            continue
        whose, reason = reasons.of(form)
        if whose == "unexplained" and not is_wellformed(form.form, language):
            whose, reason = "theirs", "not well formed in the script"
        refused.append((*form, whose, reason))
    if rejected_to is not None:
        write_table(rejected_to, ("form", "root", "note", "whose", "reason"), refused)
    theirs = sum(row[3] == "theirs" for row in refused)
    by_reason: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in refused:
        by_reason[row[3]][row[4]] += 1
    return {
        "forms": len(forms),
        "accepted": share(accepted, len(forms)),
        "accepted_without_theirs": share(accepted, len(forms) - theirs),
        "refused": {whose: dict(counts.most_common()) for whose, counts in by_reason.items()},
    }


# --- the commands ----------------------------------------------------------------------------------


def golden(arguments: argparse.Namespace) -> None:
    language, weights = arguments.language, arguments.weights
    segmenter = (
        load_segmenter(language) if weights is None else weighted_segmenter(language, weights)
    )
    score = score_golden(segmenter, arguments.golden)
    if arguments.wrong is not None:
        columns = ("word", "pieces", "ours", "category", "our_category")
        write_table(arguments.wrong, columns, score.wrong)
    report = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in asdict(score).items()
        if name != "wrong"
    }
    show({"oracle": "golden", "language": language, **report})


def generated(arguments: argparse.Namespace) -> None:
    segmenter = load_segmenter("ta")
    forms = thamizhi_forms(arguments.folder) if arguments.oracle == "thamizhi" else vettu_forms()
    cleaned = [Form(normalise(f.form, "ta"), normalise(f.root, "ta"), f.note) for f in forms]
    known = verb_roots(segmenter)
    roots = {form.root for form in cleaned}
    ours = list(dict.fromkeys(form for form in cleaned if form.root in known))
    reasons = Reasons(arguments.explained)
    report = measure(segmenter, ours, reasons, arguments.rejected)
    everything = {"forms": len(forms), "roots": len(roots), "roots_in_lists": len(roots & known)}
    parts: dict[str, object] = {}
    if arguments.oracle == "thamizhi":
        classes: defaultdict[str, set[str]] = defaultdict(set)
        for entry in segmenter.grammar.entries:
            if entry.category == "verbs" and entry.kind == "prefix":
                classes[entry.form].update(entry.classes)
        verbs = [f for f in ours if classes[f.root] & set(THAMIZHI_CLASSES[f.note].split())]
        own = [f for f in verbs if not is_causative(f)]
        spelt = [f for f in own if is_wellformed(f.form, "ta")]
        for name, some in (("same_class", verbs), ("own_forms", own), ("own_well_formed", spelt)):
            part = measure(segmenter, some, reasons, None)
            parts[name] = {
                key: part[key] for key in ("forms", "accepted", "accepted_without_theirs")
            }
    show({"oracle": arguments.oracle, "all": everything, **parts, **report})


def unimorph(arguments: argparse.Namespace) -> None:
    language = arguments.language
    segmenter = load_segmenter(language)
    attested = count_words(arguments.text, language)
    known = {e.form for e in segmenter.grammar.entries if e.kind == "prefix"}
    forms = [
        Form(normalise(f.form, language), normalise(f.root, language), f.note)
        for f in unimorph_forms(arguments.table)
    ]
    seen: dict[str, Form] = {}
    for form in forms:
        if form.form in attested:
            seen.setdefault(form.form, form)
    ours = [form for form in seen.values() if form.root in known]
    report = measure(segmenter, ours, Reasons(arguments.explained), arguments.rejected)
    accepted = sum(segmenter.accepts(form) for form in seen if is_wellformed(form, language))
    everything = {
        "rows": len(forms),
        "attested_forms": len(seen),
        "accepted": share(accepted, len(seen)),
        "lemma_in_lists": len(ours),
    }
    show({"oracle": "unimorph", "language": language, "all": everything, **report})


def corrupt(arguments: argparse.Namespace) -> None:
    language = arguments.language
    segmenter = load_segmenter(language)
    words = sorted(count_words(arguments.text, language))
    attested = {*words, *count_words(arguments.attested, language)}
    random.Random(arguments.seed).shuffle(words)
    accepted = [word for word in words[: 4 * arguments.number] if segmenter.accepts(word)]
    sample = sample_corruptions(
        Corrupter(segmenter), accepted, attested, arguments.number, arguments.seed
    )
    made = Counter(corruption.kind for corruption in sample)
    survivors = [corruption for corruption in sample if segmenter.accepts(corruption.corrupted)]
    passed = Counter(corruption.kind for corruption in survivors)
    if arguments.survivors is not None:
        random.Random(arguments.seed).shuffle(survivors)
        rows = [
            (s.kind, s.word, s.corrupted, " ".join(x.form for x in segmenter.segment(s.corrupted).subwords), "")
            for s in survivors
        ]  # fmt: skip
        write_table(
            arguments.survivors, ("corruption", "from", "corrupted", "pieces", "verdict"), rows
        )
    show(
        {
            "oracle": "corrupt",
            "language": language,
            "seed": arguments.seed,
            "made": len(sample),
            "passed": share(len(survivors), len(sample)),
            "kinds": {
                kind: {"made": made[kind], "passed": share(passed[kind], made[kind])}
                for kind in sorted(made)
            },
        }
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(dest="oracle", required=True)
    one = commands.add_parser("golden")
    one.add_argument("-l", "--language", required=True)
    one.add_argument("golden", type=Path)
    one.add_argument("--wrong", type=Path)
    one.add_argument("--weights", type=Path)
    one.set_defaults(run=golden)
    for name in ("thamizhi", "vettu"):
        one = commands.add_parser(name)
        if name == "thamizhi":
            one.add_argument("folder", type=Path)
        one.add_argument("--explained", type=Path)
        one.add_argument("--rejected", type=Path)
        one.set_defaults(run=generated)
    one = commands.add_parser("unimorph")
    one.add_argument("-l", "--language", required=True)
    one.add_argument("table", type=Path)
    one.add_argument("text", type=Path, nargs="+")
    one.add_argument("--explained", type=Path)
    one.add_argument("--rejected", type=Path)
    one.set_defaults(run=unimorph)
    one = commands.add_parser("corrupt")
    one.add_argument("-l", "--language", required=True)
    one.add_argument("text", type=Path, nargs="+")
    one.add_argument("--attested", type=Path, action="append", default=[])
    one.add_argument("--survivors", type=Path)
    one.add_argument("--number", type=int, default=6000)
    one.add_argument("--seed", type=int, default=7)
    one.set_defaults(run=corrupt)
    return top


def main() -> int:
    arguments = parser().parse_args()
    try:
        arguments.run(arguments)
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
