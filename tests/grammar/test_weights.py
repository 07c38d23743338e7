"""Trained weights: the passes over the lattices against sums over all paths, one by one."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from uyir.errors import DataError
from uyir.grammar.commands import grammar as grammar_commands
from uyir.grammar.commands import segment as segment_command
from uyir.grammar.join import join
from uyir.grammar.morphotactics import Grammar, compile_grammar, load_grammar, subword_acceptor
from uyir.grammar.script import compose, decompose, is_wellformed
from uyir.grammar.segment import Segmenter
from uyir.grammar.weights import UNSEEN, Choices, Lattices, Training, Weights, train
from uyir.lexicon.symbols import Symbols

GOLDEN = Path(__file__).parent / "golden"
# மரத்தை is a noun of its own, too, ஐயும் one suffix or two, தம்பி one root or a root and a suffix.
AMBIGUOUS = {
    "nouns/prefix.tsv": """form	class	next	gloss	features	weight	note
மரம்	n.am		tree
வீடு	n.du		house
தம்பி	n.i		younger brother
மரத்தை		# c.clitic	that tree
தம்		n.vow	his
""",
    "nouns/suffix.tsv": """form	class	next	gloss	features	weight	note
ஐ	n.obl n.vow	# c.clitic	ACC	case=acc
க்கு	n.obl n.vow	# c.clitic	DAT	case=dat
இல்	n.obl n.vow	# c.clitic	LOC	case=loc
உம்	c.clitic	#	and
ஐயும்	n.obl n.vow	#	ACC.and
பி	n.vow	# c.clitic	made up
""",
}
Path_ = list[tuple[int, int]]


@pytest.fixture
def ambiguous(toy_lists: Callable[[dict[str, str]], Path]) -> Grammar:
    return compile_grammar("ta", data=toy_lists(AMBIGUOUS))


def all_paths(grammar: Grammar, choices: Choices) -> Iterator[tuple[str, Path_]]:
    """Every path from start to end (the toy has no cycle): its letters, and the choices of each arc."""
    stack: list[tuple[int, str, Path_]] = [(Grammar.START, "", [])]
    while stack:
        state, letters, path = stack.pop()
        if state == Grammar.END:
            yield letters, path
        for arc, pair in zip(grammar.arcs[state], choices.of_arcs[state]):
            stack.append((arc.target, letters + arc.letters, [*path, pair]))


def random_logs(choices: Choices, seed: int) -> np.ndarray:
    """A distribution in each context."""
    amounts = np.random.default_rng(seed).uniform(0.05, 1.0, len(choices.keys))
    context = np.asarray(choices.context)
    return np.asarray(np.log(amounts / np.bincount(context, amounts)[context]))


def cost(path: Path_, logp: np.ndarray) -> float:
    return sum(float(logp[entry] + logp[to]) for entry, to in path)


@pytest.fixture
def by_word(ambiguous: Grammar) -> dict[str, list[Path_]]:
    found: dict[str, list[Path_]] = defaultdict(list)
    for letters, path in all_paths(ambiguous, Choices(ambiguous)):
        found[letters].append(path)
    return dict(found)


def test_the_toy_has_words_of_several_analyses(by_word: dict[str, list[Path_]]) -> None:
    assert len(by_word) > 30
    assert max(map(len, by_word.values())) >= 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("best_only", [False, True])
def test_both_passes_equal_a_sum_over_all_paths(
    ambiguous: Grammar, by_word: dict[str, list[Path_]], seed: int, best_only: bool
) -> None:
    choices = Choices(ambiguous)
    logp = random_logs(choices, seed)
    lattices = Lattices(ambiguous, choices)
    rng = random.Random(seed)
    likelihood, expected = 0.0, np.zeros(len(logp))
    for letters in rng.sample(sorted(by_word), 25):
        count = rng.randint(1, 9)
        assert lattices.add(letters, count)
        paths = by_word[letters]
        scores = [cost(path, logp) for path in paths]
        total = max(scores) if best_only else math.log(sum(map(math.exp, scores)))
        likelihood += count * total
        for path, score in zip(paths, scores):
            share = float(score == total) if best_only else math.exp(score - total)
            for pair in path:
                for choice in pair:
                    expected[choice] += count * share
    ours, counts = lattices.graph().expect(logp, best_only)
    assert ours == pytest.approx(likelihood, rel=1e-9)
    np.testing.assert_allclose(counts, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_all_words_together_have_probability_one(
    ambiguous: Grammar, by_word: dict[str, list[Path_]], seed: int
) -> None:
    """Seams cost nothing, so that choices of entry and of exit make one distribution over paths."""
    logp = random_logs(Choices(ambiguous), seed)
    total = sum(math.exp(cost(path, logp)) for paths in by_word.values() for path in paths)
    assert total == pytest.approx(1.0, abs=1e-9)


def toy_counts(by_word: dict[str, list[Path_]], seed: int = 1) -> Counter[str]:
    rng = random.Random(seed)
    words = rng.sample(sorted(by_word), 25)
    return Counter({compose(letters, "ta"): rng.randint(1, 50) for letters in words})


@pytest.mark.parametrize("method", ["em", "viterbi"])
@pytest.mark.parametrize("seed", range(4))
def test_likelihood_never_falls(
    ambiguous: Grammar, by_word: dict[str, list[Path_]], method: str, seed: int
) -> None:
    told: list[tuple[int, float]] = []
    result = train(
        ambiguous,
        toy_counts(by_word, seed),
        method,
        30,
        report=lambda done, value: told.append((done, value)),
    )
    values = result.log_likelihood
    assert told == list(enumerate(values))
    assert len(values) > 2
    assert all(later >= earlier - 1e-9 * -earlier for earlier, later in zip(values, values[1:]))
    assert values[-1] > values[0]
    assert values[-1] < 0


def distributions(weights: Weights, grammar: Grammar) -> dict[tuple[str, ...], float]:
    """The sum over the options that the grammar has in each context."""
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for context, option in Choices(grammar).keys:
        known = weights.costs[context]
        sums[context] += math.exp(-known.get(option, known[UNSEEN]))
    return sums


@pytest.mark.parametrize("method", ["em", "viterbi"])
def test_distributions_sum_to_one_and_unseen_paths_keep_mass(
    ambiguous: Grammar, by_word: dict[str, list[Path_]], method: str
) -> None:
    seen = Counter({"மரத்தை": 5, "வீட்டில்": 2})
    smoothing = 0.5
    weights = train(ambiguous, seen, method, smoothing=smoothing).weights
    for context, total in distributions(weights, ambiguous).items():
        assert total == pytest.approx(1.0, abs=1e-9), context
    weighted = weights.apply(ambiguous)
    arc_costs = [arc.weight for leaving in weighted.arcs for arc in leaving]
    assert all(0.0 <= value < math.inf for value in arc_costs)
    for letters in by_word:
        assert Segmenter(weighted).accepts(compose(letters, "ta"))
    # 7 running words, 5 roots, and தம்பி in none of the words
    roots = weights.costs[("^",)]
    assert roots[UNSEEN] == pytest.approx(-math.log(smoothing / (7 + 5 * smoothing)))
    assert ("nouns", "prefix", "தம்பி", "n.i", "=n.i") not in roots
    assert roots["nouns", "prefix", "வீடு", "n.du", "=n.du"] < roots[UNSEEN]


def test_counts_decide_between_analyses(ambiguous: Grammar) -> None:
    """மரத்தை is listed whole, and is மரம் with ACC; the text tells which."""
    accusatives = Counter({"மரத்தை": 1, "வீட்டை": 50, "மரத்தில்": 50, "மரத்தையும்": 1})
    wholes = Counter({"மரத்தை": 50, "வீடு": 50, "தம்பி": 1, "மரம்": 1})
    cuts = []
    for counts in (accusatives, wholes):
        weighted = train(ambiguous, counts, iterations=20, smoothing=0.01).weights.apply(ambiguous)
        cuts.append(len(Segmenter(weighted).segment("மரத்தை").subwords))
    assert cuts == [2, 1]


@pytest.mark.parametrize("method", ["em", "viterbi"])
def test_training_is_deterministic_and_survives_its_file(
    ambiguous: Grammar, by_word: dict[str, list[Path_]], method: str, tmp_path: Path
) -> None:
    counts = toy_counts(by_word)
    first = train(ambiguous, counts, method)
    again = train(ambiguous, Counter(dict(reversed(list(counts.items())))), method)
    first.weights.write(tmp_path / "first.tsv", "remark")
    again.weights.write(tmp_path / "again.tsv", "remark")
    assert first.log_likelihood == again.log_likelihood
    assert (tmp_path / "first.tsv").read_bytes() == (tmp_path / "again.tsv").read_bytes()
    read = Weights.read(tmp_path / "first.tsv").apply(ambiguous)
    for ours, kept in zip(first.weights.apply(ambiguous).arcs, read.arcs):
        assert [arc.weight for arc in ours] == pytest.approx([arc.weight for arc in kept], abs=2e-6)
        assert [arc[:2] for arc in ours] == [arc[:2] for arc in kept]


def test_the_weighted_acceptor_costs_what_the_segmenter_says(
    ambiguous: Grammar, by_word: dict[str, list[Path_]]
) -> None:
    pynini = pytest.importorskip("pynini")
    weighted = train(ambiguous, toy_counts(by_word)).weights.apply(ambiguous)
    segmenter = Segmenter(weighted)
    words = Symbols(["<eps>", *segmenter.pieces()])
    sg = subword_acceptor(weighted, words, weighted=True)
    for letters in by_word:
        result = segmenter.segment(compose(letters, "ta"))
        pieces = pynini.Fst()
        state = pieces.add_state()
        pieces.set_start(state)
        for marked in result.marked:
            label, following = words.id(marked), pieces.add_state()
            pieces.add_arc(state, pynini.Arc(label, label, 0.0, following))
            state = following
        pieces.set_final(state)
        best = pynini.shortestdistance(pynini.intersect(pieces, sg), reverse=True)[0]
        assert float(best) == pytest.approx(result.cost, abs=1e-4)


def test_words_outside_the_grammar_are_counted_and_left_out(ambiguous: Grammar) -> None:
    counts = Counter({"மரம்": 3, "பூனை": 4, "பூனைக்கு": 2})
    result = train(ambiguous, counts)
    assert (result.closed_tokens, result.closed_types) == (3, 1)
    assert (result.open_tokens, result.open_types) == (6, 2)
    without = train(ambiguous, Counter({"மரம்": 3}))
    assert result.weights == without.weights
    with pytest.raises(DataError, match="accepts none of 1 words"):
        train(ambiguous, Counter({"பூனை": 4}))


@pytest.mark.parametrize(
    ("method", "iterations", "smoothing"), [("mle", 1, 1.0), ("em", 0, 1.0), ("em", 1, 0.0)]
)
def test_impossible_options_are_refused(
    ambiguous: Grammar, method: str, iterations: int, smoothing: float
) -> None:
    with pytest.raises(DataError, match="smoothing"):
        train(ambiguous, Counter({"மரம்": 1}), method, iterations, smoothing)


HEADER = "state\tcategory\tkind\tform\tclass\tnext\tto\tweight\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("^\tnouns\tprefix\tமரம்\tn.am\t\t\tmuch\n", 2, "no cost"),
        ("^\tnouns\tprefix\tமரம்\tn.am\t\t\t-1\n", 2, "no cost"),
        ("^\tnouns\tprefix\tமரம்\tn.am\t\t\tnan\n", 2, "no cost"),
        ("^\t*\t\t\t\t\t\t1\n^\t*\t\t\t\t\t\t2\n", 3, "already"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "weights.tsv"
    path.write_text(HEADER + text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as raised:
        Weights.read(path)
    assert f"weights.tsv:{line}" in str(raised.value)


def test_weights_of_another_language_are_refused(ambiguous: Grammar, tmp_path: Path) -> None:
    path = tmp_path / "weights.tsv"
    path.write_text(HEADER + "^\tnouns\tprefix\tಮರ\tn.a\t\t\t1\n", encoding="utf-8")
    with pytest.raises(DataError, match="no entry of the grammar"):
        Weights.read(path).apply(ambiguous)


# --- the real grammars ------------------------------------------------------------------------------


def golden_words(language: str) -> list[str]:
    lines = (GOLDEN / f"{language}_segments.tsv").read_text(encoding="utf-8").splitlines()
    words = (line.split("\t")[0] for line in lines)
    return sorted({word for word in words if is_wellformed(word, language)})[:200]


@pytest.fixture(scope="module")
def trained() -> Training:
    return train(load_grammar("kn"), Counter(golden_words("kn")), iterations=5)


def test_the_real_grammar_trains(trained: Training) -> None:
    grammar = load_grammar("kn")
    values = trained.log_likelihood
    assert trained.closed_types > 150
    assert all(later >= earlier - 1e-9 * -earlier for earlier, later in zip(values, values[1:]))
    assert all(
        total == pytest.approx(1.0, abs=1e-9)
        for total in distributions(trained.weights, grammar).values()
    )


def test_the_real_grammar_accepts_the_same_words_by_weights(trained: Training) -> None:
    grammar = load_grammar("kn")
    plain, weighted = Segmenter(grammar), Segmenter(trained.weights.apply(grammar))
    for word in golden_words("kn"):
        result = weighted.segment(word)
        assert join(result.marked, "kn") == word
        assert result.closed == plain.segment(word).closed
        if result.closed:
            assert result.cost >= 0.0


def test_lattices_hold_the_paths_that_the_search_finds() -> None:
    """With the lists' costs as weights, the best path of a lattice costs what the search says."""
    grammar = load_grammar("kn")
    choices = Choices(grammar)
    segmenter = Segmenter(grammar)
    logp = np.zeros(len(choices.keys))
    logp -= np.asarray(choices.costs)
    lattices = Lattices(grammar, choices)
    total = 0.0
    for word in golden_words("kn"):
        accepted = lattices.add(decompose(word, "kn"))
        assert accepted == segmenter.accepts(word)
        total += segmenter.segment(word).cost if accepted else 0.0
    best, _ = lattices.graph().expect(logp, best_only=True)
    assert -best == pytest.approx(total, abs=1e-4)


def test_commands_train_and_segment(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ಮನೆ ಮನೆಯಲ್ಲಿ ಮರವನ್ನು ಮಾಡಿದನು\nಮನೆ ಘಞಫಛಘ\n", encoding="utf-8")
    table = tmp_path / "weights.tsv"
    run = CliRunner()
    result = run.invoke(
        grammar_commands,
        ["train", "-l", "kn", "--method", "viterbi", "--iterations", "2", "-o", str(table), str(text)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = [line.split("\t") for line in result.output.splitlines()]
    told = dict(row for row in rows if len(row) == 2)
    assert [row[1] for row in rows if row[0] == "log_likelihood"][:2] == ["0", "1"]
    assert (told["closed_tokens"], told["open_tokens"]) == ("5", "1")
    costs = {}
    for option in ((), ("--weights", str(table))):
        result = run.invoke(segment_command, ["-l", "kn", "--json", *option, "ಮನೆ"])
        assert result.exit_code == 0, result.output
        costs[option] = result.output
    assert len(set(costs.values())) == 2
    weight = Weights.read(table).costs[("^",)]
    assert any(key[2] == "ಮನೆ" for key in weight if key != UNSEEN)
