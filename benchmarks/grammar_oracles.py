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

thamizhi: ThamizhiMorph's files words-C*: each verb is a block of forms of one length, its bare root among them.
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
from uyir.grammar.script import is_wellformed, normalise
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


def thamizhi_forms(folder: Path) -> list[Form]:
    """Every form with its verb's bare root: the slot whose forms are shortest is the imperative."""
    paths = sorted(folder.glob("words-C*"))
    if not paths:
        raise DataError("no files words-C*", folder)
    found = []
    for path in paths:
        forms = [line.strip() for line in read_lines(path) if line.strip()]
        length = block_length(forms)
        blocks = [forms[i : i + length] for i in range(0, len(forms), length)]
        slot = min(range(length), key=lambda i: sum(len(block[i]) for block in blocks))
        for block in blocks:
            found += [Form(form, block[slot], path.name) for form in dict.fromkeys(block)]
    return found


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
    report = measure(segmenter, ours, Reasons(arguments.explained), arguments.rejected)
    everything = {"forms": len(forms), "roots": len(roots), "roots_in_lists": len(roots & known)}
    show({"oracle": arguments.oracle, "all": everything, **report})


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
