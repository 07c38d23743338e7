"""Words that a user adds to a model, and words that a recording is likely to have.

A root comes with a paradigm class, and the grammar says in which pieces it shows itself and which
endings follow each (`RootPlaces`). The built graph has a splice for every state that a root can lead
to, so the root enters with all its inflections, without training and without a new build. What was
added is kept apart from the model, as a list of roots, and is placed again when the graph is another.

Where: ``$UYIR_WORDS``, else ``$XDG_DATA_HOME/uyir/words``, else ``~/.local/share/uyir/words``; in it a
folder for each model, in that ``<language>.tsv`` (columns `COLUMNS`) and, beside it, where its roots stand
in the present graph.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uyir.errors import DataError, ScriptError
from uyir.grammar.lists import read_table
from uyir.grammar.script import decompose, is_wellformed, normalise
from uyir.grammar.text import read_lines

if TYPE_CHECKING:
    from uyir.decode.graph import Graph
    from uyir.grammar.morphotactics import RootPlaces

COLUMNS = ("root", "class", "why")
#: What a category may be called in a user's file, and the folder of lists that it means.
CATEGORIES = {
    **{"noun": "nouns", "nouns": "nouns", "name": "nouns", "names": "nouns"},
    **{"verb": "verbs", "verbs": "verbs", "number": "numbers", "numbers": "numbers"},
    **{"pronoun": "pronouns", "pronouns": "pronouns", "other": "other"},
}
#: Natural logarithms that an added root gains on what a graph asks for a new one.
ADDED_GAIN = 6.0
SPLICE, WHOLE = "<splice:", "#"
_FORMAT = 1


@dataclass(frozen=True)
class AddedWord:
    """A root, its paradigm class, and why that class."""

    root: str
    class_name: str
    why: str


@dataclass(frozen=True)
class Place:
    """A piece of a root as the graph takes it: its marked spelling, the splice, its token names."""

    marked: str
    key: str
    tokens: tuple[str, ...]


class Classes:
    """The paradigm classes of a language: which there are, and which one a root has or looks like."""

    def __init__(self, language: str) -> None:
        from uyir.grammar.morphotactics import RootPlaces, load_grammar

        self.language = language
        self.places: RootPlaces = RootPlaces(
            load_grammar(language, without=frozenset({"detached=yes"}))
        )
        self.known: dict[str, list[str]] = defaultdict(list)  # root -> classes
        self._of: dict[str, str] = {}  # class -> category
        self._endings: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for entry in self.places.entries:
            for name in entry.next:
                if entry.kind != "prefix" or not name.startswith("="):
                    continue
                class_name = name[1:]
                self.known[entry.form].append(class_name)
                self._of.setdefault(class_name, entry.category)
                for length in range(1, 5):
                    self._endings[entry.category, entry.letters[-length:]][class_name] += 1

    def choose(self, root: str, wanted: str) -> AddedWord:
        """The class of a root: named by ``wanted``, the lists' own, or that of most roots that end alike
        within the category ``wanted`` (nouns if it is empty). Raises `DataError`."""
        if wanted in self._of:
            return AddedWord(root, wanted, "as given")
        category = CATEGORIES.get(wanted or "noun")
        if category is None:
            classes = ", ".join(sorted(self._of))
            raise DataError(
                f"no category or class {wanted!r}; categories: {', '.join(sorted(set(CATEGORIES)))}; "
                f"classes: {classes}"
            )
        for class_name in self.known.get(root, ()):
            if self._of[class_name] == category:
                return AddedWord(root, class_name, "in the lists")
        letters = decompose(root, self.language)
        for length in range(min(4, len(letters)), 0, -1):
            alike = self._endings.get((category, letters[-length:]))
            if not alike:
                continue
            best = min(alike, key=lambda name: (-alike[name], name))
            # A long ending that few share says less than a shorter one.
            if length > 1 and sum(alike.values()) < 5:
                continue
            why = f"{alike[best]} of {sum(alike.values())} {category} that end in {length} letters as it does"
            return AddedWord(root, best, why)
        raise DataError(f"{root!r}: no root of the category {category} ends like it; name a class")

    def place(self, word: AddedWord) -> list[Place]:
        """The pieces of a word with their splices and canonical phones."""
        found = []
        for piece, splice in self.places.targets(word.root, word.class_name):
            key = splice[len(SPLICE) : -1]
            whole = key == WHOLE
            marked = piece if whole else piece + "+"
            found.append(Place(marked, key, _phones(piece, self.language, whole)))
        return found


def _phones(piece: str, language: str, whole: bool) -> tuple[str, ...]:
    """Canonical phones of a piece as it sounds before what follows: an ending, or the word's end."""
    from uyir.grammar.script import load_script
    from uyir.lexicon.g2p import load_g2p

    g2p = load_g2p(language)
    if whole:
        return g2p.pronounce(piece, variants=False)[0].phones
    letters = decompose(piece, language)
    script = load_script(language)
    # A vowel's quality and a stop's voice depend on what follows: something plain is said and cut off.
    tail = script.inherent
    if letters[-1] not in script.consonants:
        tail = script.having("liquid")[0] + tail
    said = g2p.pronounce_letters(letters + tail, variants=False)[0].phones
    return said[: len(said) - len(tail)]


def word_folder(model: str) -> Path:
    """Where the added words of a model are kept."""
    base = os.environ.get("UYIR_WORDS")
    if base:
        return Path(base) / model
    data = os.environ.get("XDG_DATA_HOME", "")
    home = Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share"
    return home / "uyir" / "words" / model


def read_words(path: Path) -> list[AddedWord]:
    """A kept list; empty if there is none. Raises `DataError` naming file and line."""
    if not path.is_file():
        return []
    return [AddedWord(row["root"], row["class"], row["why"]) for row in read_table(path, COLUMNS)]


def write_words(path: Path, words: Sequence[AddedWord]) -> None:
    """Keep a list, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ["\t".join(COLUMNS)]
    rows += ["\t".join((word.root, word.class_name, word.why)) for word in words]
    _replace(path, "".join(row + "\n" for row in rows))


def read_roots(path: Path, language: str) -> list[tuple[str, str, int]]:
    """A user's file: a root a line, perhaps a tab and its category or class: (root, wanted, line).

    Raises `DataError` naming file and line for a root of another script or one that is not well formed.
    """
    found = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) > 2:
            raise DataError("want a root and, after a tab, its category or class", path, number)
        root = normalise(cells[0], language)
        if " " in root or not root:
            raise DataError(f"{cells[0]!r}: want one word", path, number)
        try:
            decompose(root, language)
        except ScriptError as error:
            raise DataError(
                f"{cells[0]!r} is no word of {language!r}: {error}", path, number
            ) from None
        if not is_wellformed(root, language):
            raise DataError(f"{cells[0]!r} is no well-formed word of {language!r}", path, number)
        found.append((root, cells[1] if len(cells) == 2 else "", number))
    if not found:
        raise DataError("no words in it", path)
    return found


def places_of(
    path: Path, words: Sequence[AddedWord], language: str, graph_key: str
) -> list[tuple[AddedWord, list[Place]]]:
    """Where kept words enter a graph: as kept beside the list, or worked out again for another graph."""
    beside = path.with_suffix(".places.json")
    key = hashlib.sha256(
        json.dumps([_FORMAT, graph_key, [[w.root, w.class_name] for w in words]]).encode()
    ).hexdigest()
    try:
        kept = json.loads(beside.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return [
                (word, [Place(m, k, tuple(t)) for m, k, t in places])
                for word, places in zip(words, kept["places"])
            ]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    classes = Classes(language)
    placed = [(word, classes.place(word)) for word in words]
    rows = [[[p.marked, p.key, list(p.tokens)] for p in places] for _, places in placed]
    text = json.dumps({"key": key, "places": rows}, ensure_ascii=False)
    with suppress(OSError):  # a folder that cannot be written: worked out again next time
        _replace(beside, text)
    return placed


def splice_words(
    graph: Graph,
    words: list[str],
    tokens: Mapping[str, int],
    placed: Iterable[tuple[AddedWord, Sequence[Place]]],
    gain: float = ADDED_GAIN,
) -> Graph:
    """The graph with words in it; ``words``, the word table, grows by their pieces.

    A place whose splice the graph does not have (a state that no word of its text led to) is passed over.
    """
    from uyir.decode.graph_splices import Root

    have = {splice.key for splice in graph.splices}
    ids = {marked: number for number, marked in enumerate(words)}
    roots = []
    for _, places in placed:
        for place in places:
            if place.key not in have:
                continue
            number = ids.get(place.marked)
            if number is None:
                number = ids[place.marked] = len(words)
                words.append(place.marked)
            spoken = tuple(tokens[name] for name in place.tokens)
            roots.append(Root(place.key, 0, spoken, number, -gain))
    return graph.with_roots(roots) if roots else graph


def boost(
    graph: Graph,
    words: list[str],
    tokens: Mapping[str, int],
    placed: Iterable[tuple[AddedWord, Sequence[Place]]],
    gain: float,
) -> Graph:
    """The graph with every arc that says a piece of these words cheaper by ``gain``; pieces that it does
    not have are spliced in."""
    ids = {marked: number for number, marked in enumerate(words)}
    there: set[int] = set()
    missing = []
    for word, places in placed:
        known = [place for place in places if place.marked in ids]
        there.update(ids[place.marked] for place in known)
        left = [place for place in places if place.marked not in ids]
        if left:
            missing.append((word, left))
    chosen = np.isin(graph.lexical.olabel, np.array(sorted(there), dtype=np.int64))
    weight = graph.lexical.weight.copy()
    weight[chosen] -= np.float32(gain)
    boosted = replace(graph, lexical=replace(graph.lexical, weight=weight))
    return splice_words(boosted, words, tokens, missing, ADDED_GAIN + gain)


def placed_hotwords(path: Path, language: str) -> list[tuple[AddedWord, Sequence[Place]]]:
    """The words of a file of hotwords with the places of all their pieces. Raises `DataError`."""
    roots = read_roots(path, language)
    classes = Classes(language)
    placed: list[tuple[AddedWord, Sequence[Place]]] = []
    for root, wanted, line in roots:
        try:
            word = classes.choose(root, wanted)
            placed.append((word, classes.place(word)))
        except DataError as error:
            raise DataError(str(error), path, line) from None
    return placed


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def graph_key(meta: Mapping[str, Any]) -> str:
    """What tells one build of a graph from another."""
    return "/".join(str(meta.get(name, "")) for name in ("words_sha256", "lm_sha256", "builder"))
