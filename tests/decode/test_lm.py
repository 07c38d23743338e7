"""Language models: a hand-worked example, sums, kenlm's opinion, pruning, files, perplexity."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from uyir.decode import lm_prune, lm_train
from uyir.decode.lm import (
    LN10,
    NgramModel,
    Vocabulary,
    mix,
    perplexity,
    prune,
    read_arpa,
    read_sentences,
    train,
    tune_weights,
)
from uyir.decode.lm_count import count_ngrams, cut_off, discounts
from uyir.decode.lm_prune import history_counts
from uyir.errors import DataError
from uyir.lexicon.symbols import Symbols


def corpus(seed: int, sentences: int, size: int = 40) -> list[list[str]]:
    """Random sentences, Zipf-like with some memory, over distinct Tamil pieces."""
    rng = np.random.default_rng(seed)
    letters = "கசடதபறஞணநமன"
    names = ["".join(p) + "+" * (i % 2) for i, p in enumerate(itertools.product(letters, repeat=2))]
    out = []
    for _ in range(sentences):
        row, here = [], 0
        for _ in range(int(rng.integers(1, 9))):
            here = int((here * 3 + rng.zipf(1.5)) % size)
            row.append(names[here])
        out.append(row)
    return out


def fit(
    sentences: list[list[str]],
    order: int = 3,
    table: Optional[list[str]] = None,
    **options: object,
) -> NgramModel:
    vocabulary = Vocabulary() if table is None else Vocabulary(table, closed=True)
    text = vocabulary.encode(sentences)
    return train(text, vocabulary, order, **options)  # type: ignore[arg-type]


def plain_probability(model: NgramModel, history: tuple[str, ...], word: str) -> float:
    """The back-off recursion as the textbooks write it, over a dictionary; natural logarithm."""
    table = model.__dict__.setdefault("_table", {})
    if not table:
        for n, order in enumerate(model.orders):
            for row, p, b in zip(model.ngrams(n).tolist(), order.logp, order.logb):
                table[tuple(model.symbols[i] for i in row)] = (float(p), float(b))
    history = history[max(0, len(history) - model.order + 1) :]
    if (*history, word) in table:
        return table[(*history, word)][0]  # type: ignore[no-any-return]
    paid = table.get(history, (0.0, 0.0))[1]
    return paid + plain_probability(model, history[1:], word)


def histories(model: NgramModel) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for n in range(model.order - 1):
        found += [tuple(model.symbols[i] for i in row) for row in model.ngrams(n).tolist()]
    return [h for h in found if "</s>" not in h]


def assert_sums_to_one(model: NgramModel) -> None:
    for history in histories(model):
        total = sum(math.exp(plain_probability(model, history, w)) for w in model.symbols)
        assert total == pytest.approx(1.0, abs=1e-6), history


OPTIONS = [
    {"order": 1},
    {"order": 2},
    {"order": 3},
    {"order": 4, "min_counts": (1, 2)},
    {"order": 3, "prune": 1e-3},
    {"order": 3, "max_ngrams": 150},
    {"order": 3, "min_counts": (2,), "prune": 1e-4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_probabilities_of_every_history_sum_to_one(options: dict[str, object]) -> None:
    assert_sums_to_one(fit(corpus(1, 300), **options))  # type: ignore[arg-type]


def test_hand_worked_bigram() -> None:
    """Modified Kneser-Ney of three sentences, worked with pencil and paper.

    a b / a b / a c. Counts of counts of the bigrams: ``<s> a`` 3, ``a b`` 2, ``b </s>`` 2, ``a c`` 1,
    ``c </s>`` 1: n1 = 2, n2 = 2, n3 = 1, n4 = 0. Y = 2 / (2 + 4) = 1/3; D1 = 1 - 2/3 * 2/2 = 1/3,
    D2 = 2 - 3/3 * 1/2 = 3/2, D3 = 3 - 0 = 3: not below 3, so the fallback 0.5, 1, 1.5 is taken.
    Unigrams count different words before: a 1, b 1, c 1, </s> 2; n1 = 3, n2 = 1, n3 = 0: fallback.
    """
    model = fit([["அ+", "இ"], ["அ+", "இ"], ["அ+", "உ"]], order=2)
    # Freed of the unigrams: 3 * 0.5 + 1 = 2.5 of 5; five words can be foretold (with <unk>).
    share = 2.5 / 5 / 5
    unigram = {"அ+": 0.1 + share, "இ": 0.1 + share, "உ": 0.1 + share, "</s>": 0.2 + share}
    unigram["<unk>"] = share
    for word, want in unigram.items():
        assert plain_probability(model, (), word) == pytest.approx(math.log(want))
    # After a: b 2 - 1, c 1 - 0.5 of 3; freed 1.5 of 3.
    assert plain_probability(model, ("அ+",), "இ") == pytest.approx(
        math.log(1 / 3 + 0.5 * unigram["இ"])
    )
    assert plain_probability(model, ("அ+",), "உ") == pytest.approx(
        math.log(0.5 / 3 + 0.5 * unigram["உ"])
    )
    assert plain_probability(model, ("அ+",), "</s>") == pytest.approx(
        math.log(0.5 * unigram["</s>"])
    )
    # <s> a: 3 - 1.5 of 3.
    assert plain_probability(model, ("<s>",), "அ+") == pytest.approx(
        math.log(0.5 + 0.5 * unigram["அ+"])
    )


def test_sentences_shorter_than_the_order() -> None:
    model = fit([["அ"]], order=5)
    assert [len(order) for order in model.orders] == [4, 2, 1, 0, 0]
    assert_sums_to_one(model)


def test_discounts_follow_chen_and_goodman() -> None:
    counts = np.repeat([1, 2, 3, 4, 5], [40, 20, 12, 8, 5])
    y = 40 / (40 + 2 * 20)
    want = (1 - 2 * y * 20 / 40, 2 - 3 * y * 12 / 20, 3 - 4 * y * 8 / 12)
    assert discounts(counts) == pytest.approx(want)


def slow_modified_kneser_ney(
    sentences: list[list[str]], order: int
) -> dict[tuple[str, ...], float]:
    """The same model from the definition, with dictionaries and sets; p of every seen n-gram."""
    raw: dict[tuple[str, ...], int] = {}
    for sentence in sentences:
        row = ("<s>", *sentence, "</s>")
        for n in range(1, order + 1):
            for i in range(len(row) - n + 1):
                raw[row[i : i + n]] = raw.get(row[i : i + n], 0) + 1
    words = {g[0] for g in raw if len(g) == 1} - {"<s>"} | {"<unk>"}
    before: dict[tuple[str, ...], set[str]] = {}
    for gram in raw:
        if len(gram) > 1:
            before.setdefault(gram[1:], set()).add(gram[0])

    def count(gram: tuple[str, ...]) -> int:
        if len(gram) == order or gram[0] == "<s>":
            return raw.get(gram, 0)
        return len(before.get(gram, ()))

    docked = {}
    for n in range(1, order + 1):
        docked[n] = discounts(np.array([count(g) for g in raw if len(g) == n and g != ("<s>",)]))

    def probability(gram: tuple[str, ...]) -> float:
        history, word = gram[:-1], gram[-1]
        lower = probability(gram[1:]) if len(gram) > 1 else 1 / len(words)
        seen = {w: count((*history, w)) for w in words}
        total = sum(seen.values())
        if not total:
            return lower
        table = (0.0, *docked[len(gram)])
        freed = sum(table[min(c, 3)] for c in seen.values())
        c = seen[word]
        return (c - table[min(c, 3)]) / total + freed / total * lower

    return {g: probability(g) for g in raw if g[-1] != "<s>"}


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_equals_the_definition(order: int) -> None:
    sentences = corpus(7, 120, 15)
    model = fit(sentences, order)
    for gram, want in slow_modified_kneser_ney(sentences, order).items():
        have = math.exp(plain_probability(model, gram[:-1], gram[-1]))
        assert have == pytest.approx(want, rel=1e-9), gram


def test_counts_are_those_of_the_text() -> None:
    sentences = corpus(2, 200)
    vocabulary = Vocabulary()
    levels = count_ngrams(vocabulary.encode(sentences), len(vocabulary), 3)
    raw: dict[tuple[int, ...], int] = {}
    for sentence in sentences:
        row = (0, *(vocabulary.id(p) for p in sentence), 1)
        for i in range(len(row) - 2):
            raw[row[i : i + 3]] = raw.get(row[i : i + 3], 0) + 1
    two, three = levels[1], levels[2]
    have = {
        (int(two.history[h]), int(two.word[h]), int(w)): int(c)
        for h, w, c in zip(three.history, three.word, three.count)
    }
    assert have == raw


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("stretch", [1, 7, 100, 999])
def test_a_text_larger_than_memory_gives_the_same_model(
    options: dict[str, object], stretch: int, tmp_path: Path
) -> None:
    """Counted a few tokens at a time, from a file, with everything in mapped files."""
    sentences = corpus(1, {1: 15, 7: 100}.get(stretch, 300))
    vocabulary = Vocabulary()
    with (tmp_path / "text").open("wb") as file:
        count = vocabulary.encode_file(sentences, file)
    text = np.memmap(tmp_path / "text", np.int32, "r", shape=(count,))
    model = train(text, vocabulary, stretch=stretch, scratch=tmp_path, **options)  # type: ignore[arg-type]
    whole = fit(sentences, **options)  # type: ignore[arg-type]
    assert model.symbols == whole.symbols
    for have, want in zip(model.orders, whole.orders):
        assert np.array_equal(have.history, want.history) and np.array_equal(have.word, want.word)
        assert have.logp == pytest.approx(want.logp) and have.logb == pytest.approx(want.logb)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]  # it cleans up


@pytest.mark.parametrize("lowest", [(1, 2, 2), (1, 1, 3), (1, 3, 4)])
def test_what_is_below_the_cut_offs_is_summed_up(lowest: tuple[int, ...]) -> None:
    sentences = corpus(2, 300)
    vocabulary = Vocabulary()
    levels = count_ngrams(vocabulary.encode(sentences), len(vocabulary), 3)
    counts = cut_off(levels, lowest, stretch=50)
    rows = [(0, *(vocabulary.id(p) for p in s), 1) for s in sentences]
    raw: dict[tuple[int, ...], int] = {}
    for row in rows:
        for n in (1, 2, 3):
            for i in range(len(row) - n + 1):
                raw[row[i : i + n]] = raw.get(row[i : i + n], 0) + 1
    names: list[list[tuple[int, ...]]] = [[(i,) for i in range(len(vocabulary))]]
    for n in (1, 2):
        level = counts.levels[n]
        names.append(
            [(*names[n - 1][h], w) for h, w in zip(level.history.tolist(), level.word.tolist())]
        )
        assert names[n] == sorted(g for g, c in raw.items() if len(g) == n + 1 and c >= lowest[n])
        assert [names[n - 1][i] for i in level.lower.tolist()] == [g[1:] for g in names[n]]
        below = {g: c for g, c in raw.items() if len(g) == n + 1 and c < lowest[n]}
        for i, gram in enumerate(names[n - 1]):
            assert counts.left_out[n][i] == sum(c for g, c in below.items() if g[:-1] == gram)
            assert counts.extra[n - 1][i] == sum(c for g, c in below.items() if g[1:] == gram)
        left = [len({g[0] for g in raw if g[1:] == gram}) for gram in raw if len(gram) == n]
        plain = [
            raw[gram] if gram[0] == 0 else count
            for gram, count in zip([g for g in raw if len(g) == n], left)
            if gram != (0,)
        ]
        assert counts.discounts[n - 1] == discounts(np.array(plain))


def test_mixture_is_the_weighted_mean() -> None:
    one, two = fit(corpus(1, 200), 3), fit(corpus(4, 150, 30), 2, min_counts=(2,))
    third = fit([["இல்லை", "வீடு"], ["வீடு"]], 2)  # other words
    models, weights = [one, two, third], [0.5, 0.3, 0.2]
    mixed = mix(models, weights)
    assert set(mixed.symbols) == set(one.symbols) | set(two.symbols) | set(third.symbols)
    assert mixed.order == 3
    assert_sums_to_one(mixed)
    for n, order in enumerate(mixed.orders):
        for row, p in zip(mixed.ngrams(n).tolist()[:300], order.logp.tolist()):
            gram = tuple(mixed.symbols[i] for i in row)
            if gram[-1] == "<s>":
                continue
            want = 0.0
            for model, weight in zip(models, weights):
                if gram[-1] in model.symbols:
                    history = gram[:-1]
                    while history and not set(history) <= set(model.symbols):
                        history = history[1:]
                    want += weight * math.exp(plain_probability(model, history, gram[-1]))
            assert math.exp(p) == pytest.approx(want, rel=1e-6), gram
    alone = mix([one], [1.0])
    held = corpus(6, 50)
    assert alone.score(alone.encode(held)) == pytest.approx(one.score(one.encode(held)))


def test_pruning_a_model_that_is_there() -> None:
    text = corpus(8, 1500)
    whole = fit(text, 3)
    small = prune(whole, text, max_ngrams=300)
    assert_sums_to_one(small)
    assert 250 <= len(small) <= 300
    # What stays has its probability, and every history that it needs.
    for n in (1, 2):
        have = {tuple(row): p for row, p in zip(whole.ngrams(n).tolist(), whole.orders[n].logp)}
        for row, p in zip(small.ngrams(n).tolist(), small.orders[n].logp):
            assert have[tuple(row)] == p
    # Not far from estimating the lower orders again, which `train` can do.
    held = corpus(9, 500)
    here, other, best = (
        perplexity(m, held, "ta").by_piece
        for m in (small, fit(text, 1), fit(text, 3, max_ngrams=300))
    )
    assert best < here < 1.05 * best < other
    assert len(prune(whole, text, threshold=0.0)) == len(whole)
    mixed = mix([whole, fit(corpus(4, 200), 2)], [0.7, 0.3])
    assert_sums_to_one(prune(mixed, text, max_ngrams=400))
    with pytest.raises(DataError, match="empty text"):
        prune(whole, [], max_ngrams=300)
    with pytest.raises(DataError, match="unigrams"):
        prune(whole, text, max_ngrams=5)


def test_the_loss_of_an_ngram_is_what_it_costs_to_drop_it() -> None:
    """Relative entropy from the sum over all histories and words, without one n-gram."""
    text = corpus(2, 60, 8)
    whole = fit(text, 2)
    counts = history_counts(whole, text)
    assert counts[0].sum() == sum(len(row) + 2 for row in text)
    order = whole.orders[1]
    low = np.exp(whole.orders[0].logp)[order.word]
    seen = counts[0] / counts[0].sum()
    losses = lm_train.loss_of_dropping(np.exp(order.logp), low, order.history, seen)
    for drop in range(0, len(order), 7):
        mask = np.arange(len(order)) != drop
        small = lm_prune._reduced(whole, [np.ones(len(whole.orders[0]), dtype=bool), mask])
        history = int(order.history[drop])
        name = whole.symbols[history]
        want = 0.0
        for word in whole.symbols:
            p = plain_probability(whole, (name,), word)
            if math.isfinite(p):
                want += math.exp(p) * (p - plain_probability(small, (name,), word))
        assert losses[drop] == pytest.approx(seen[history] * want, rel=1e-6, abs=1e-12)


def test_weights_are_tuned_on_held_out_text() -> None:
    one, two = fit(corpus(1, 200), 2), fit(corpus(4, 200, 15), 2)
    held = corpus(1, 60) + corpus(4, 20, 15)
    weights = tune_weights([one, two], held)
    assert sum(weights) == pytest.approx(1)

    def loss(first: float) -> float:
        texts = [m.encode(held) for m in (one, two)]
        p = [np.where(t == 2, 0.0, np.exp(m.score(t))) for m, t in zip((one, two), texts)]
        total = first * p[0] + (1 - first) * p[1]
        return -float(np.log(total[total > 0]).sum())

    best = min(np.arange(0.01, 1, 0.01), key=loss)
    assert weights[0] == pytest.approx(best, abs=0.011)
    assert tune_weights([one, one], held) == pytest.approx((0.5, 0.5))
    with pytest.raises(DataError, match="empty held-out"):
        tune_weights([one, two], [])
    with pytest.raises(DataError, match="not shares of 1"):
        mix([one, two], [0.5, 0.6])
    with pytest.raises(DataError, match="2 models and 1 weights"):
        mix([one, two], [1.0])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_kenlm_agrees_on_every_probability(options: dict[str, object], tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    if options["order"] == 1:
        pytest.skip("kenlm reads no unigram models")
    model = fit(corpus(3, 300), **options)  # type: ignore[arg-type]
    path = tmp_path / "lm.arpa"
    model.write_arpa(path)
    theirs = kenlm.Model(str(path))
    held = [*corpus(4, 100), ["இல்லாத", *corpus(5, 1)[0]]]
    text = model.encode(held)
    ours = model.score(text) / LN10
    at = 0
    for sentence in held:
        scores = [s for s, _, _ in theirs.full_scores(" ".join(sentence))]
        assert ours[at + 1 : at + 1 + len(scores)] == pytest.approx(scores, abs=2e-5)
        at += len(sentence) + 2


def test_vectorised_scores_equal_the_recursion() -> None:
    model = fit(corpus(3, 300), order=4, prune=1e-4)
    held = corpus(6, 60)
    have = model.score(model.encode(held))
    want = []
    for sentence in held:
        row = ["<s>", *(p if p in model.symbols else "<unk>" for p in sentence), "</s>"]
        want.append(0.0)
        want += [plain_probability(model, tuple(row[:i]), row[i]) for i in range(1, len(row))]
    assert have == pytest.approx(want)


def test_every_piece_of_the_table_has_a_unigram() -> None:
    table = Symbols(["<eps>", "படி+", "+ஆன்", "மரம்", "<splice:n>", "#0"])
    vocabulary = Vocabulary.of_table(table)
    text = vocabulary.encode([["படி+", "+ஆன்"], ["வேறு", "படி+", "+ஆன்"]])
    model = train(text, vocabulary, 2)
    assert model.symbols == ("<s>", "</s>", "<unk>", "படி+", "+ஆன்", "மரம்")
    unigram = np.exp(model.orders[0].logp)
    assert unigram[5] > 0 and unigram[2] > unigram[5]  # வேறு was seen as <unk>
    assert_sums_to_one(model)


def test_pruning_drops_what_costs_least() -> None:
    held = corpus(9, 300)
    whole = fit(corpus(8, 2000))
    sizes, losses = [], []
    for threshold in (0.0, 1e-5, 1e-4, 1e-3, 1e-2):
        model = fit(corpus(8, 2000), prune=threshold)
        sizes.append(len(model))
        losses.append(perplexity(model, held, "ta").by_piece)
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0] / 3
    assert sizes[0] == len(whole)
    assert losses[1] < losses[0] * 1.02 and losses[0] < losses[-1] < losses[0] * 2


def test_lower_orders_are_corrected_for_what_was_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    text, held = corpus(8, 3000), corpus(9, 500)
    corrected = fit(text, max_ngrams=300)
    adjusted = lm_train._adjusted
    monkeypatch.setattr(
        lm_train,
        "_adjusted",
        lambda counts, kept: adjusted(
            counts, [np.ones(len(level), dtype=bool) for level in counts.levels]
        ),
    )
    plain = fit(text, max_ngrams=300)
    assert len(plain) == len(corrected)
    better = perplexity(corrected, held, "ta").by_piece
    assert better < 0.99 * perplexity(plain, held, "ta").by_piece


def test_max_ngrams_is_kept_and_nearly_used_up() -> None:
    for limit in (100, 200, 350):
        assert 0.85 * limit <= len(fit(corpus(1, 400), max_ngrams=limit)) <= limit
    with pytest.raises(DataError, match="unigrams"):
        fit(corpus(1, 400), max_ngrams=5)


def test_arpa_round_trip(tmp_path: Path) -> None:
    for options in OPTIONS:
        model = fit(corpus(3, 200), **options)  # type: ignore[arg-type]
        path = tmp_path / "lm.arpa"
        model.write_arpa(path)
        read = read_arpa(path)
        assert read.symbols == model.symbols and len(read) == len(model)
        text = model.encode(corpus(5, 50))
        assert read.score(text) == pytest.approx(model.score(text), abs=1e-5)


ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99\t<s>\t-0.3
-0.6\t</s>
-0.5\tஅ\t-0.2
-0.5\tஆ

\\2-grams:
-0.1\t<s> அ
-0.2\tஅ </s>

\\end\\
"""


def test_arpa_by_another_program(tmp_path: Path) -> None:
    path = tmp_path / "x.arpa"
    path.write_text("a preamble\n\n" + ARPA, encoding="utf-8")
    model = read_arpa(path)
    score = model.score(model.encode([["அ", "ஆ"]]))
    assert score / LN10 == pytest.approx([0.0, -0.1, -0.2 - 0.5, -0.6])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "", "not an ARPA file"),
        (lambda t: t[: t.index("-0.2\tஅ </s>")], r":11: .*promises 2 2-grams and has 1"),
        (lambda t: t[: t.index("\\2-grams")], "want '.2-grams:'"),
        (lambda t: t[: t.index("\\end")], "cut short"),
        (lambda t: t.replace("-0.5\tஆ", "-0.5\tஆ\0"), r":9: a NUL byte"),
        (lambda t: t.replace("ngram 2=2", "ngram 2=3"), "promises 3 2-grams and has 2"),
        (lambda t: t.replace("ngram 2=2", "ngram 3=2"), r":3: want 'ngram 2=COUNT'"),
        (lambda t: t.replace("-0.6", "-0.6x"), r":7: a number"),
        (lambda t: t.replace("-0.6", "0.6"), r":7: 0.6 is not"),
        (lambda t: t.replace("<s> அ", "<s> இ"), r":12: 'இ' is not among"),
        (lambda t: t.replace("அ </s>", "<s> அ"), "stands twice"),
        (lambda t: t.replace("-0.2\tஅ </s>", "-0.2"), r":13: want a 2-gram"),
        (lambda t: t.replace("</s>", "end"), "has no </s>"),
    ],
)
def test_damaged_arpa(change: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.arpa"
    path.write_text(change(ARPA), encoding="utf-8")  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        read_arpa(path)
    assert str(path) in str(caught.value)


def test_a_cut_compressed_arpa(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "x.arpa.gz"
    path.write_bytes(gzip.compress(ARPA.encode())[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        read_arpa(path)


def test_bad_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    with pytest.raises(DataError, match="no such file"):
        list(read_sentences([path]))
    path.write_bytes("மரம்\nம\0ரம்\n".encode())
    with pytest.raises(DataError, match=":2: a NUL byte"):
        list(read_sentences([path]))
    path.write_bytes("மரம்\n".encode("utf-16"))
    with pytest.raises(DataError, match=r":1: UTF-16, not UTF-8"):
        list(read_sentences([path]))
    path.write_text("மரம்\n\nಮರ\n", encoding="utf-8")
    with pytest.raises(DataError, match=r":3: .*not a letter of 'ta'"):
        list(read_sentences([path], "ta"))
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="empty corpus"):
        fit(list(read_sentences([path])))
    with pytest.raises(DataError, match="order 0"):
        fit([["அ"]], order=0)


def test_perplexity_counts() -> None:
    model = fit([["படி+", "+த்த்+", "+ஆன்"], ["மரம்"]] * 3, order=2)
    found = perplexity(model, [["படி+", "+த்த்+", "+ஆன்", "மரம்"], ["ஓடு+", "+ஆன்"]], "ta")
    assert (found.sentences, found.words, found.pieces) == (2, 3, 6)
    assert (found.oov_pieces, found.oov_words) == (1, 1)
    # படித்தான் ப அ ட இ த த ஆ ன, மரம் ம அ ர அ ம, ஓடுஆன் ஓ ட உ ஆ ன, and a space or end after each.
    assert found.letters == 8 + 5 + 5 + 3
    # ஓடு+ is unknown: what is left out of the probability is left out of the letters.
    assert found.oov_letters == 3
    assert found.by_letter == pytest.approx(math.exp(-found.log_probability / 18))
    # Words that are known, and the ends of the sentences.
    assert found.by_word == pytest.approx(math.exp(-found.log_probability / (2 + 2)))
    with pytest.raises(DataError, match="empty"):
        perplexity(model, [], "ta")
