"""Checks of the lists, and drawings of them."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator

from uyir.errors import DataError, UyirError
from uyir.grammar.lists import LANGUAGE_DATA
from uyir.grammar.morphotactics import Entry, Grammar, compile_grammar
from uyir.grammar.numbers import NumberGrammar
from uyir.grammar.segment import Segmenter

#: The most list entries that a language may have: a grammar, not a word list.
MAX_ENTRIES = 60_000


def _where(entry: Entry) -> str:
    return f"{entry.category}/{entry.path.name}:{entry.line}"


def check_language(language: str) -> list[str]:
    """Everything wrong with a language's lists, one problem a line, each with file and line."""
    try:
        grammar = compile_grammar(language)
    except DataError as error:
        return [str(error)]
    return [
        *_size(grammar),
        *_duplicates(grammar),
        *_order(grammar),
        *(f"{_where(e)}: {e.form!r} is on no path of the grammar" for e in grammar.unused),
        *_derived(grammar),
        *_numbers(language),
    ]


def _size(grammar: Grammar) -> Iterator[str]:
    if len(grammar.entries) > MAX_ENTRIES:
        yield f"{len(grammar.entries)} entries, at most {MAX_ENTRIES}"


def _duplicates(grammar: Grammar) -> Iterator[str]:
    seen: dict[tuple[object, ...], Entry] = {}
    for entry in grammar.entries:
        key = (entry.kind, entry.category, entry.form, entry.classes, entry.next)
        if key in seen:
            yield f"{_where(entry)}: {entry.form!r} stands at {_where(seen[key])} already"
        seen.setdefault(key, entry)


def _order(grammar: Grammar) -> Iterator[str]:
    """Root lists are sorted by class, then form."""
    last: dict[str, tuple[tuple[str, ...], str]] = {}
    for entry in grammar.entries:
        if entry.kind != "prefix":
            continue
        key = (entry.classes, entry.form)
        file = str(entry.path)
        if file in last and key < last[file]:
            yield f"{_where(entry)}: {entry.form!r} is not in order (class, then form)"
        last[file] = key


def _derived(grammar: Grammar) -> Iterator[str]:
    """Roots that another root and its affixes already make; `homograph=yes` marks the chance ones."""
    segmenter = Segmenter(grammar)
    roots = [e for e in grammar.entries if e.kind == "prefix"]
    for entry in roots:
        if ("homograph", "yes") in entry.features or len(entry.letters) < 5:
            continue
        path = segmenter.derivation(entry.letters)
        if path is not None:
            yield f"{_where(entry)}: {entry.form!r} is derived: {' '.join(path)}"


def _numbers(language: str) -> Iterator[str]:
    """The tables of `uyir number`, if the language has them: readable, and every line in use."""
    if not (LANGUAGE_DATA / language / "numbers" / "scales.tsv").is_file():
        return
    try:
        for line in NumberGrammar(language).unused:
            yield f"{line}: makes no number"
    except DataError as error:
        yield str(error)


def draw_category(language: str, category: str) -> str:
    """A Graphviz drawing of the list states of one category, parallel pieces on one arrow."""
    if not (LANGUAGE_DATA / language / category).is_dir():
        raise DataError(f"no category {category!r} of {language!r}")
    grammar = compile_grammar(language)
    arrows: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for source, arcs in enumerate(grammar.arcs):
        for arc in arcs:
            entry = grammar.entries[arc.entry]
            if entry.category == category:
                pair = (grammar.states[source].name, grammar.states[arc.target].name)
                if entry.form not in arrows[pair]:
                    arrows[pair].append(entry.form)
    lines = [f"digraph {category} {{", "  rankdir=LR; node [shape=box, style=rounded];"]
    for (source_name, target_name), forms in sorted(arrows.items()):
        label = " ".join(forms[:6]) + (f" … ({len(forms)})" if len(forms) > 6 else "")
        lines.append(f'  "{source_name}" -> "{target_name}" [label="{label}"];')
    return "\n".join([*lines, "}"]) + "\n"


def render_svg(drawing: str) -> str:
    """A Graphviz drawing as SVG, by Graphviz's own layout; raises `UyirError` where it is not installed."""
    program = shutil.which("dot")
    if program is None:
        raise UyirError("SVG needs Graphviz (dot); install it, or use --format dot")
    done = subprocess.run([program, "-Tsvg"], input=drawing.encode(), capture_output=True)
    if done.returncode:
        raise UyirError(f"dot failed: {done.stderr.decode(errors='replace').strip()[:200]}")
    return done.stdout.decode()
