"""Both searches against plain ones and against each other, and grammars kept on disk."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

import uyir.grammar.search as search_module
import uyir.grammar.segment as segment_module
from uyir.cache import cache_folder
from uyir.errors import ScriptError
from uyir.grammar.batch import LONGEST
from uyir.grammar.cut import Cutter, cheapest_cut
from uyir.grammar.letters import Encoder, Letters
from uyir.grammar.morphotactics import Grammar, compile_grammar, load_grammar, unknown_pieces
from uyir.grammar.script import compose, decompose, is_wellformed, letters_of, load_script
from uyir.grammar.search import Path as FoundPath
from uyir.grammar.search import Search
from uyir.grammar.segment import Segmenter
from uyir.grammar.store import kept_grammar
from uyir.grammar.tables import units
from uyir.grammar.weights import train

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


def checked(
    grammar: Grammar, search: Search, letters: str, path: Optional[FoundPath]
) -> Optional[int]:
    """The cost of a path, after a look whether it is one."""
    if path is None:
        return None
    steps = search.steps(letters, path)
    assert "".join(step.letters for step in steps) == letters
    state, cost = Grammar.START, 0
    for step in steps:
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
        found = checked(toy, search, letters, search.closed(letters))
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
        found = checked(grammar, search, letters, search.closed(letters))
        assert found == cheapest_by_trying(grammar, letters)


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_what_is_remembered_changes_nothing(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = load_grammar(language)
    every = sorted(set(words(language)))
    one_by_one = Segmenter(grammar)
    forward = [one_by_one.segment(word) for word in every]
    other = Segmenter(grammar)
    backward = [other.segment(word) for word in every[::-1]][::-1]
    monkeypatch.setattr(search_module, "MOST_KEPT", 50)
    forgetful = Segmenter(grammar)
    assert forward == backward == [forgetful.segment(word) for word in every]


def awkward(language: str, known: list[str]) -> Iterator[str]:
    """Words as they come, words damaged, letters in any order, and what is no word."""
    rng = random.Random(7)
    yield from known
    letters = load_script(language).letters
    for word in known:
        damaged = list(decompose(word, language))
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice(letters)
        yield spelt(damaged, language)
        yield spelt(decompose(word, language) + decompose(rng.choice(known), language), language)
    for size in (*range(1, 12), 2 * LONGEST // 3, LONGEST - 1, LONGEST, LONGEST + 1, 3 * LONGEST):
        for _ in range(20):
            yield spelt(rng.choices(letters, k=size), language)
    yield from (
        "",
        "\n",
        "கா\nகை",
        "abc",
        "\udc80",
        "ாக",
        "க்்",
        "ಾ",
        "க ",
        "ಅ್ಯ",
        "ಆ್ಯಪ್",
        "பிஎஸ்ஏ",
        "ஜ಼",
        "🙂",
    )


def spelt(letters: object, language: str) -> str:
    try:
        return compose("".join(letters), language)  # type: ignore[call-overload]
    except ScriptError:
        return "".join(letters)  # type: ignore[call-overload]


def variants(language: str) -> Iterator[Grammar]:
    grammar = load_grammar(language)
    yield grammar
    yield load_grammar(language, frozenset({"style=colloquial", "script=detached"}))
    counts = {word: 1 + len(word) % 5 for word in sorted(set(words(language)))[::2]}
    yield train(grammar, counts, iterations=2).weights.apply(grammar)


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_many_words_are_cut_as_each_one_is(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    every = [*dict.fromkeys(awkward(language, sorted(set(words(language)))))]
    random.Random(2).shuffle(every)
    for number, grammar in enumerate(variants(language)):
        segmenter = Segmenter(grammar)
        known = segmenter.segment_known(every)
        assert list(known) == every
        for word, found in known.items():
            assert (found is None) == (not is_wellformed(word, language)), word
            assert found is None or found == segmenter.segment(word)
        cut = [found for found in known.values() if found is not None]
        assert sum(found.closed for found in cut) > 100
        assert sum(not found.closed and len(found.subwords) > 1 for found in cut) > 100
        if not number:
            monkeypatch.setattr(segment_module, "AT_ONCE", 100)
            assert Segmenter(grammar).segment_known(every) == known
            monkeypatch.undo()


def test_the_first_word_that_is_none_is_named(toy: Grammar) -> None:
    segmenter = Segmenter(toy)
    many = ["மரம்"] * 100 + [f"மரத்தை{c}" for c in "கசடதபற"] * 30 + ["abc", "கா1", "வீடு"]
    with pytest.raises(ScriptError, match="'abc'"):
        segmenter.segment_all(many)
    assert segmenter.segment_all([]) == []
    twice = segmenter.segment_all(["மரம்", "வீடு", "மரம்"])
    assert [found.word for found in twice] == ["மரம்", "வீடு", "மரம்"]


def every_path(
    grammar: Grammar, letters: str, state: int = Grammar.START
) -> Iterator[list[tuple[int, str]]]:
    """All paths of a letter string to the end, as costs and pieces."""
    if not letters:
        if state == Grammar.END:
            yield []
        return
    for arc in grammar.arcs[state]:
        if letters.startswith(arc.letters):
            for rest in every_path(grammar, letters[len(arc.letters) :], arc.target):
                yield [(units(arc.weight), arc.letters), *rest]


def test_of_all_paths_the_cheapest_with_the_longest_last_pieces(
    toy_lists: Callable[[dict[str, str]], Path],
) -> None:
    """Pieces of a, b and c of every kind, so that most words have several paths of one cost."""
    columns = "form\tclass\tnext\tgloss\tfeatures\tweight\tnote\n"
    rng = random.Random(4)
    forms = {"".join(rng.choices("அஇஉ", k=rng.randint(1, 4))) for _ in range(40)}
    names = ["n.one", "n.two", "n.three"]

    def line(form: str, classes: str) -> str:
        following = " ".join(rng.sample([*names, "#"], 2))
        return f"{form}\t{classes}\t{following}\tx\t\t{rng.choice(['', '1', '2'])}\n"

    pieces = sorted(forms)
    tables = {
        "rules.tsv": "rule\tpattern\treplacement\tnote\n",
        "sandhi.tsv": "rule\tleft\tright\tleft_out\tright_out\tat\tnote\n",
        "states.tsv": "state\tincludes\tnote\n",
        "open.tsv": "state\tpattern\tweight\tmin\tnote\nn.one\t[அஇ]\t0\t1\nn.two\tஇ\t1\t2\n#\tஉ\t2\t1\n",
        "nouns/stems.tsv": "class\trule\tnext\tfeatures\tnote\n",
        "nouns/prefix.tsv": columns + "".join(line(form, "") for form in pieces[::2]),
        "nouns/suffix.tsv": columns
        + "".join(line(form, " ".join(rng.sample(names, 2))) for form in pieces),
    }
    grammar = compile_grammar("ta", data=toy_lists(tables))
    search = Search(grammar)
    segmenter = Segmenter(grammar)
    texts = sorted({"".join(rng.choices("அஇஉ", k=rng.randint(1, 11))) for _ in range(1500)})
    ties = 0
    for text, found in zip(texts, segmenter.segment_all([compose(t, "ta") for t in texts])):
        paths = list(every_path(grammar, text))
        assert found == segmenter.segment(found.word)
        assert found.closed == bool(paths)
        if not paths:
            continue
        least = min(sum(cost for cost, _ in path) for path in paths)
        best = [path for path in paths if sum(cost for cost, _ in path) == least]
        ties += len({tuple(piece for _, piece in path) for path in best}) > 1
        wanted = max([len(piece) for _, piece in reversed(path)] for path in best)
        path = search.closed(text)
        assert path is not None and path.cost == least
        assert [len(step.letters) for step in reversed(search.steps(text, path))] == wanted
    assert ties > 50


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_many_words_are_spelt_as_each_one_is(language: str) -> None:
    """Every syllable in every neighbourhood, and what is none."""
    script = load_script(language)
    vowels = [*(script.spelling(vowel) for vowel in script.vowels)]
    signs = [*script.signs, script.virama]
    some = {consonant + sign for consonant in script.consonants for sign in signs}
    some |= {syllable + mark for syllable in [*some, *vowels] for mark in script.marks} | {*vowels}
    every = sorted(some)
    rng = random.Random(3)
    many = [*every, *("".join(rng.choices(every, k=rng.randint(2, 6))) for _ in range(20_000))]
    many += ["".join(rng.choices([*every, *script.letters, *signs], k=4)) for _ in range(5000)]
    letters = [letters_of(word, language) or "" for word in many]
    encoder, names = Encoder(language), Letters(language).letters
    codes, starts, sizes = encoder.encode(many)
    found = [
        "".join(names[code - 1] for code in codes[begin : begin + size].tolist())
        for begin, size in zip(starts.tolist(), sizes.tolist())
    ]
    assert found == letters
    pieces = [text[rng.randrange(len(text)) :] for text in letters if text]
    pieces = [piece for piece in pieces if not piece.startswith(("·", script.nukta or "·"))]
    assert encoder.spell(pieces) == [compose(piece, language) for piece in pieces]
    assert sum(map(bool, letters)) > 20_000
    with pytest.raises(ScriptError):
        encoder.spell(["x"])


@pytest.mark.parametrize("language", ["ta", "kn"])
def test_many_unknown_roots_are_cut_as_each_one_is(language: str) -> None:
    costs = unknown_pieces(load_grammar(language))
    encoder = Encoder(language)
    many = [
        word
        for word in awkward(language, sorted(set(words(language))))
        if is_wellformed(word, language)
    ]
    cutter = Cutter(Letters(language), costs)
    words_ = encoder.encode(many)
    counts, owner, pieces = cutter.cut(words_)
    found: list[list[str]] = [[] for _ in many]
    for word, piece in zip(owner.tolist(), pieces.tolist()):
        found[word].append(cutter.pieces[piece])
    impossible = 0
    for word, parts, count in zip(many, found, counts.tolist()):
        wanted = cheapest_cut(decompose(word, language), costs)
        assert count == len(parts)
        if count:
            assert parts == wanted
        else:
            impossible += 1
            assert any(part not in costs for part in wanted)
    assert impossible < len(many) / 10


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
    monkeypatch.delenv("UYIR_CACHE", raising=False)
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


def test_the_grammar_used_least_recently_goes_first(
    cache: Path, toy_lists: Callable[[dict[str, str]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uyir.grammar.store.MOST_FILES", 2)
    data = toy_lists({})
    kept_grammar("ta", data=data)
    (used,) = cache.iterdir()
    kept_grammar("ta", frozenset(["style=colloquial"]), data)
    (idle,) = set(cache.iterdir()) - {used}
    for age, file in ((200, used), (100, idle)):
        os.utime(file, (time.time() - age, time.time() - age))
    kept_grammar("ta", data=data)
    kept_grammar("ta", frozenset(["list=loan"]), data)
    assert used.is_file()
    assert not idle.is_file()


def test_a_cache_that_cannot_be_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_lists: Callable[[dict[str, str]], Path]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.delenv("UYIR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert cache_folder() == blocked / "uyir"
    assert kept_grammar("ta", data=toy_lists({})).language == "ta"
