"""The remembering search against a plain one, and grammars kept on disk."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

import uyir.grammar.search as search_module
from uyir.grammar.morphotactics import Grammar, compile_grammar, load_grammar
from uyir.grammar.script import decompose, is_wellformed, letters_of, load_script
from uyir.grammar.search import Path as FoundPath
from uyir.grammar.search import Search, units
from uyir.grammar.segment import Segmenter
from uyir.grammar.store import cache_folder, kept_grammar

GOLDEN = Path(__file__).parent / "golden"


def cheapest_by_trying(grammar: Grammar, letters: str) -> Optional[int]:
    """The cost of the cheapest closed path: Bellman's recursion, nothing kept, nothing shared."""
    best: dict[tuple[int, int], int] = {(0, Grammar.START): 0}
    for position in range(len(letters)):
        for state in range(len(grammar.states)):
            so_far = best.get((position, state))
            if so_far is None:
                continue
            for arc in grammar.arcs[state]:
                if letters.startswith(arc.letters, position):
                    place = (position + len(arc.letters), arc.target)
                    total = so_far + units(arc.weight)
                    best[place] = min(total, best.get(place, total))
    return best.get((len(letters), Grammar.END))


def words(language: str) -> Iterator[str]:
    for name in ("segments", "paradigms"):
        for line in (GOLDEN / f"{language}_{name}.tsv").read_text(encoding="utf-8").splitlines():
            word = line.split("\t")[0]
            if is_wellformed(word, language):
                yield word


def checked(grammar: Grammar, letters: str, path: Optional[FoundPath]) -> Optional[int]:
    """The cost of a path, after a look whether it is one."""
    if path is None:
        return None
    assert "".join(step.letters for step in path.steps) == letters
    state, cost = Grammar.START, 0
    for step in path.steps:
        assert step.arc is not None
        assert step.arc in grammar.arcs[state]
        assert (step.letters, step.target) == (step.arc.letters, step.arc.target)
        state, cost = step.target, cost + units(step.arc.weight)
    assert state == Grammar.END
    assert cost == path.cost
    return cost


def test_costs_are_those_of_a_plain_search_on_the_toy(toy: Grammar) -> None:
    search = Search(toy)
    rng = random.Random(3)
    pieces = ["மரம்", "மரத்த்", "வீட்", "வீட்ட்", "தம்பி", "ஐ", "யை", "க்கு", "உக்கு", "இல்", "உம்", "யும்"]
    accepted = 0
    for _ in range(2000):
        letters = "".join(decompose(rng.choice(pieces), "ta") for _ in range(rng.randint(1, 4)))
        found = checked(toy, letters, search.closed(letters))
        assert found == cheapest_by_trying(toy, letters), letters
        accepted += found is not None
    assert accepted > 100


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_costs_are_those_of_a_plain_search_on_golden_words(language: str) -> None:
    grammar = load_grammar(language)
    search = Search(grammar)
    sample = random.Random(5).sample(sorted(set(words(language))), 12)
    for word in sample:
        letters = decompose(word, language)
        assert checked(grammar, letters, search.closed(letters)) == cheapest_by_trying(
            grammar, letters
        )


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_what_is_remembered_changes_nothing(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = load_grammar(language)
    every = sorted(set(words(language)))
    one = [Segmenter(grammar).segment(word) for word in every[:1]]
    forward = Segmenter(grammar).segment_all(every)
    backward = Segmenter(grammar).segment_all(every[::-1])[::-1]
    monkeypatch.setattr(search_module, "MOST_TRANSITIONS", 50)
    forgetful = Segmenter(grammar).segment_all(every)
    assert forward == backward == forgetful
    assert one == forward[:1]


def test_of_equal_paths_the_one_with_the_longest_last_piece(
    toy_lists: Callable[[dict[str, str]], Path],
) -> None:
    columns = "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\n"
    data = toy_lists(
        {
            "verbs/prefix.tsv": columns + "படி\t\tv.a\tone\nபடித்த்\t\tv.b\ttwo\n",
            "verbs/suffix.tsv": columns + "த்தான்\tv.a\t#\tlong\nஆன்\tv.b\t#\tshort\n",
        }
    )
    result = Segmenter(compile_grammar("ta", data=data)).segment("படித்தான்")
    assert result.marked == ("படி+", "+த்தான்")


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_letters_of_is_wellformedness_and_decomposition(language: str) -> None:
    script = load_script(language)
    rng = random.Random(11)
    letters = [*script.vowels, *script.consonants, *script.marks, *filter(None, script.signs)]
    letters += [script.virama] * 8 + (["\u0cbc"] if script.nukta else []) + ["x", "\u200d", "ௗ"]
    wellformed = 0
    for _ in range(20_000):
        word = "".join(rng.choice(letters) for _ in range(rng.randint(0, 5)))
        wanted = decompose(word, language) if is_wellformed(word, language) else None
        assert letters_of(word, language) == wanted, word
        wellformed += wanted is not None
    assert wellformed > 1000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "uyir"


def same(one: Grammar, other: Grammar) -> bool:
    return (
        list(one.entries) == list(other.entries)
        and one.states == other.states
        and one.seam_rules == other.seam_rules
        and one.open_rows == other.open_rows
        and one.chunks == other.chunks
        and one.unused == other.unused
        and [sorted(arcs) for arcs in one.arcs] == [sorted(arcs) for arcs in other.arcs]
    )


def test_a_kept_grammar_is_the_same(
    cache: Path, toy_lists: Callable[[dict[str, str]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy_lists({})
    fresh = compile_grammar("ta", data=data)
    assert same(kept_grammar("ta", data=data), fresh)
    (file,) = cache.iterdir()
    assert file.suffix == ".safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("uyir.grammar.store.compile_grammar", None)  # read, not expanded
        kept = kept_grammar("ta", data=data)
    assert same(kept, fresh)
    for word in ("மரத்துக்கும்", "வீட்டையும்", "ரெட்டிக்கு"):
        assert Segmenter(kept).segment(word) == Segmenter(fresh).segment(word)


def test_a_changed_list_or_a_damaged_file_is_expanded_again(
    cache: Path, toy_lists: Callable[[dict[str, str]], Path]
) -> None:
    data = toy_lists({})
    kept_grammar("ta", data=data)
    (file,) = cache.iterdir()
    good = file.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[: len(good) // 2], b"", b"not a file"):
        file.write_bytes(bad)
        assert same(kept_grammar("ta", data=data), compile_grammar("ta", data=data))
        assert len(file.read_bytes()) == len(good)  # whole again
    suffixes = data / "ta" / "nouns" / "suffix.tsv"
    suffixes.write_text(suffixes.read_text(encoding="utf-8") + "ஓ\tc.clitic\t#\tor\n", "utf-8")
    changed = kept_grammar("ta", data=data)
    assert Segmenter(changed).accepts("வீடோ")
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_lists: Callable[[dict[str, str]], Path]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert cache_folder() == blocked / "uyir"
    assert kept_grammar("ta", data=toy_lists({})).language == "ta"
