"""Choose sentences to be spoken and write them with their phones: a TSV `id language text phones`.

From text files (plain or packed, one sentence a line): the sentences that language models are trained on
too (`uyir.grammar.text`): normalised, wholly in the language's script, sharing no run of six words with
held-out text. Long ones are cut into stretches; choose at random, then add stretches with rare phones until
each phone is heard often enough. Isolated words and short phrases (number words, say) are mixed in.
"""

from __future__ import annotations

import argparse
import lzma
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from uyir.errors import DataError, ScriptError, UyirError
from uyir.grammar.script import script_of
from uyir.grammar.text import HeldOut, read_lines, sentences_of
from uyir.lexicon.g2p import load_g2p

COLUMNS = ("id", "language", "text", "phones")


def stretches(words: list[str], longest: int, rng: random.Random) -> Iterator[list[str]]:
    """Cut a line of words into pieces of random length, 2 to `longest` words each."""
    while len(words) > longest:
        cut = rng.randint(2, min(longest, len(words) - 2))
        yield words[:cut]
        words = words[cut:]
    if len(words) >= 2:
        yield words


def phones_of(words: Iterable[str], language: str) -> tuple[str, ...]:
    """The canonical phones of a sentence; raises `ScriptError` for a word that cannot be said."""
    return tuple(phone for word in words for phone in _pronounced(word, language))


@lru_cache(maxsize=1 << 20)
def _pronounced(word: str, language: str) -> tuple[str, ...]:
    best = load_g2p(language).pronounce(word, variants=False)
    if not best or not best[0].phones:
        raise ScriptError(f"{word!r} has no pronunciation")
    return best[0].phones


def candidates(
    paths: list[Path],
    language: str,
    held_out: HeldOut,
    longest: int,
    rng: random.Random,
    wanted: int,
) -> list[tuple[str, ...]]:
    """About `wanted` different stretches that may be spoken, in random order."""
    lines = [line for path in paths for line in read_lines(path)]
    rng.shuffle(lines)
    found: dict[tuple[str, ...], None] = {}
    for line in lines:
        if len(found) >= wanted:
            break
        for words in sentences_of(line, language):
            for stretch in stretches(words, longest, rng):
                if not held_out.shares(stretch):
                    found[tuple(stretch)] = None
    shuffled = list(found)
    rng.shuffle(shuffled)
    return shuffled


def choose(
    texts: list[tuple[str, ...]], language: str, count: int, least: int
) -> list[tuple[str, tuple[str, ...]]]:
    """The first `count` texts, and further ones with phones heard fewer than `least` times."""
    chosen: list[tuple[str, tuple[str, ...]]] = []
    heard: Counter[str] = Counter()
    for number, words in enumerate(texts):
        if number >= count and not any(0 < heard[p] < least for p in list(heard)):
            break
        try:
            phones = phones_of(words, language)
        except (ScriptError, DataError):
            continue
        if number < count or any(heard[phone] < least for phone in phones):
            chosen.append((" ".join(words), phones))
            heard.update(phones)
    return chosen


def read_items(paths: list[Path], language: str) -> list[tuple[str, ...]]:
    """Words and phrases, one a tab-separated cell, that are all in the language's script."""
    found: set[tuple[str, ...]] = set()
    for path in paths:
        for line in read_lines(path):
            for cell in line.rstrip("\n").split("\t"):
                found.update(tuple(words) for words in sentences_of(cell, language))
    return sorted(found)


def _by_language(values: list[str], option: str) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for value in values:
        language, sign, path = value.partition("=")
        if not sign:
            raise DataError(f"{option} {value!r}, want LANGUAGE=FILE")
        files.setdefault(language, []).append(Path(path))
    return files


def write_rows(path: Path, rows: Iterable[tuple[str, ...]], columns: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write("\t".join(columns) + "\n")
        for row in rows:
            file.write("\t".join(row) + "\n")


def prepare(arguments: argparse.Namespace) -> None:
    rows: list[tuple[str, str, str, str]] = []
    texts = _by_language(arguments.text, "--text")
    items = _by_language(arguments.items, "--items")
    held_out = HeldOut()
    for path in arguments.held_out:
        for line in read_lines(path):
            # Lines hold one script; a line of neither has nothing that could be shared.
            language = script_of(line)
            if language:
                held_out.add(line, language)
    for language in sorted({*texts, *items}):
        rng = random.Random(f"{arguments.seed}/{language}")
        found = candidates(
            texts.get(language, []),
            language,
            held_out,
            arguments.max_words,
            rng,
            2 * arguments.sentences,
        )
        chosen = choose(found, language, arguments.sentences, arguments.least)
        sentences = len(chosen)
        vocabulary = sorted({word for text, _ in chosen for word in text.split()})
        words = rng.sample(vocabulary, min(arguments.words, len(vocabulary)))
        phrases = [
            p for p in read_items(items.get(language, []), language) if not held_out.shares(list(p))
        ]
        phrases = rng.sample(phrases, min(arguments.phrases, len(phrases)))
        extra = [(word,) for word in words] + phrases
        chosen += choose(extra, language, len(extra), 0)
        rng.shuffle(chosen)
        for number, (text, phones) in enumerate(chosen):
            rows.append(
                (f"{arguments.prefix}{language}{number:06d}", language, text, " ".join(phones))
            )
        heard = Counter(phone for _, phones in chosen for phone in phones)
        rare = ", ".join(f"{phone} {n}" for phone, n in heard.most_common()[-5:])
        print(
            f"{language}: {len(found)} stretches, {sentences} chosen, {len(chosen) - sentences} "
            f"words and phrases, {sum(heard.values())} phones; rarest: {rare}",
            file=sys.stderr,
        )
    write_rows(arguments.out, rows, COLUMNS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", action="append", default=[], metavar="LANG=FILE")
    parser.add_argument(
        "--items", action="append", default=[], metavar="LANG=FILE", help="words and phrases"
    )
    parser.add_argument("--held-out", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--sentences", type=int, default=60000, help="a language")
    parser.add_argument("--words", type=int, default=4000, help="isolated words a language")
    parser.add_argument("--phrases", type=int, default=4000, help="of --items, a language")
    parser.add_argument("--max-words", type=int, default=16)
    parser.add_argument("--least", type=int, default=500, help="times that each phone is wanted")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prefix", default="", help="put before every id")
    parser.add_argument("--out", type=Path, required=True)
    try:
        prepare(parser.parse_args())
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
