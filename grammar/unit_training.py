"""Learning units from words and their counts: BPE, its extended variant, Morfessor, word lists.

BPE is sentencepiece's and Morfessor is morfessor's; both are needed for training only. The extended BPE
is ours (the paper that it is named after could not be read): BPE learns a dictionary twice as large as
wanted; its pieces get probabilities by expectation maximisation over all ways of cutting each word
(maximum likelihood), or over the best one (Viterbi); a quarter of the surplus at a time, those pieces are
dropped whose loss makes the words least dearer; and words are then cut at least cost, so that a merge
learnt early no longer forbids a better cut.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from uyir.errors import DataError, UyirError
from uyir.grammar.cut import cheapest_cut
from uyir.grammar.units import KINDS, Atoms, MergeUnits, Units, make_units

#: How many pieces there are by default (words: the paper's baseline).
SIZES = {"word": 50_000, "bpe": 10_000, "bpe-extended": 10_000, "morfessor": 10_000, "grammar": 0}
#: Units are learnt from so many of the commonest words at most.
MAX_TYPES = 100_000
ESTIMATORS = ("ml", "viterbi")
_ROUNDS, _ITERATIONS = 4, 2
_LONGEST = 16
#: The search for Morfessor's corpus weight need not end by itself.
_EPOCHS = 20


def train_units(
    kind: str,
    language: str,
    counts: Mapping[str, int],
    size: int = 0,
    *,
    max_types: int = MAX_TYPES,
    estimator: str = "ml",
) -> Units:
    """Units of a kind from the words of a text and their counts.

    ``size``: how many pieces without marks (0: `SIZES`); Morfessor comes within a tenth of it, and single
    letters are always there. ``max_types``: so many of the commonest words are learnt from (a word list
    sees all). ``estimator``: one of `ESTIMATORS`, for the extended BPE. Raises `DataError` for an empty
    text or a bad choice, `UyirError` where a package is missing.
    """
    if kind not in KINDS:
        raise DataError(f"units of kind {kind!r}; want one of {', '.join(KINDS)}")
    if estimator not in ESTIMATORS:
        raise DataError(f"estimator {estimator!r}; want one of {', '.join(ESTIMATORS)}")
    if kind == "grammar":
        return make_units(kind, language, {})
    if not counts:
        raise DataError("an empty text: there is no word to learn units from")
    size = size or SIZES[kind]
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    if kind == "word":
        return make_units(kind, language, {w: float(i) for i, w in enumerate(ranked[:size])})
    atoms = Atoms(language)
    words = {atoms.of(word): counts[word] for word in ranked[:max_types]}
    if kind == "bpe":
        costs = _merges(words, size)
    elif kind == "bpe-extended":
        costs = _extended(language, words, size, estimator)
    else:
        costs = _morfessor(words, size)
    return make_units(kind, language, costs)


def _merges(words: Mapping[str, int], size: int) -> dict[str, float]:
    """BPE's merges in their order, by sentencepiece. Single letters come on top of ``size``."""
    try:
        import sentencepiece
    except ImportError:
        raise UyirError("BPE is learnt by sentencepiece: pip install 'uyir[units]'") from None
    # Atoms of several letters are private characters, which sentencepiece passes through.
    letters = {char for word in words for char in word}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "words.tsv"
        table.write_text("".join(f"{w}\t{n}\n" for w, n in words.items()), encoding="utf-8")
        try:
            sentencepiece.SentencePieceTrainer.train(
                input=str(table),
                input_format="tsv",
                model_prefix=str(Path(folder) / "bpe"),
                model_type="bpe",
                # Its table has the letters, <unk>, <s>, </s> and the word mark, too.
                vocab_size=size + len(letters) + 4,
                hard_vocab_limit=False,
                character_coverage=1.0,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                split_by_unicode_script=False,
                split_by_number=False,
                split_digits=False,
                max_sentencepiece_length=_LONGEST,
                max_sentence_length=1 << 20,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise DataError(f"sentencepiece learns nothing from this text: {error}") from None
        model = sentencepiece.SentencePieceProcessor(model_file=str(Path(folder) / "bpe.model"))
    found: dict[str, float] = {}
    for i in range(model.get_piece_size()):
        piece = model.id_to_piece(i)
        special = model.is_control(i) or model.is_unknown(i) or "\u2581" in piece
        if len(piece) > 1 and not special and len(found) < size:
            found[piece] = float(len(found))
    if not found:
        raise DataError("no two letters stand together in this text: no pair can be merged")
    return found


def morfessor_model(words: Iterable[str], size: int) -> Any:
    """Morfessor Baseline over word types, its corpus weight sought that leaves so many pieces."""
    try:
        import morfessor
    except ImportError:
        raise UyirError(
            "Morfessor's units are learnt by morfessor: pip install 'uyir[units]'"
        ) from None
    import logging
    import random

    random.seed(1)  # it visits the words in random order
    logging.getLogger("morfessor").setLevel(logging.ERROR)
    morfessor.utils.show_progress_bar = False
    model = morfessor.BaselineModel()
    model.set_corpus_weight_updater(morfessor.baseline.NumMorphCorpusWeight(size, 0.1))
    model.load_data([(1, word) for word in words])
    model.train_batch(max_epochs=_EPOCHS)
    return model


def _morfessor(words: Mapping[str, int], size: int) -> dict[str, float]:
    """What each piece of a Morfessor model costs."""
    model = morfessor_model(words, size)
    counts = {piece: count for piece, count in model.get_constructions() if count > 0}
    total = sum(counts.values()) + len(words)
    return {piece: math.log(total / count) for piece, count in sorted(counts.items())}


# --------------------------------------------------------------------------------------------------
# Extended BPE


def _extended(
    language: str, words: Mapping[str, int], size: int, estimator: str
) -> dict[str, float]:
    merges = _merges(words, 2 * size)
    bpe = MergeUnits(language, merges)
    used: dict[str, float] = dict.fromkeys([*merges, *sorted({x for w in words for x in w})], 0.5)
    for word, count in words.items():
        for piece in bpe.cut(word):
            used[piece] += count
    costs = _costs(used)
    surplus = len(merges) - size
    for number in range(_ROUNDS + 1):
        for _ in range(_ITERATIONS):
            costs = _reestimate(words, costs, estimator)
        if surplus <= 0 or number == _ROUNDS:
            break
        wanted = size + surplus * (_ROUNDS - 1 - number) // _ROUNDS
        costs = _shrink(words, costs, wanted)
    return dict(sorted(costs.items(), key=lambda item: (item[1], item[0])))


def _reestimate(
    words: Mapping[str, int], costs: Mapping[str, float], estimator: str
) -> dict[str, float]:
    """One step of expectation maximisation; single letters are never lost."""
    expected: dict[str, float] = dict.fromkeys(costs, 0.0)
    if estimator == "viterbi":
        longest = max(map(len, costs))
        for word, count in words.items():
            for piece in cheapest_cut(word, costs, longest=longest):
                expected[piece] = expected.get(piece, 0.0) + count
    else:
        odds = {piece: math.exp(-cost) for piece, cost in costs.items()}
        longest = max(map(len, costs))
        for word, count in words.items():
            _expect(word, count, odds, longest, expected)
    return _costs({p: max(n, 0.5) for p, n in expected.items() if n >= 0.5 or len(p) == 1})


def _costs(counts: Mapping[str, float]) -> dict[str, float]:
    total = math.log(sum(counts.values()))
    return {piece: total - math.log(count) for piece, count in counts.items()}


def _expect(
    word: str, count: int, odds: Mapping[str, float], longest: int, expected: dict[str, float]
) -> None:
    """Add the expected counts of a word's pieces over all its cuts (forward and backward sums)."""
    size = len(word)
    forward = [1.0] + [0.0] * size
    arcs: list[tuple[int, int, str, float]] = []
    for end in range(1, size + 1):
        for begin in range(max(0, end - longest), end):
            piece = word[begin:end]
            p = odds.get(piece)
            if p is not None and forward[begin]:
                forward[end] += forward[begin] * p
                arcs.append((begin, end, piece, p))
    if not forward[size]:
        return
    backward = [0.0] * size + [count / forward[size]]
    for begin, end, piece, p in reversed(arcs):
        share = p * backward[end]
        backward[begin] += share
        expected[piece] += forward[begin] * share


def _shrink(words: Mapping[str, int], costs: Mapping[str, float], size: int) -> dict[str, float]:
    """The pieces of several letters that are missed most, and all letters."""
    used = Counter[str]()
    longest = max(map(len, costs))
    for word, count in words.items():
        for piece in cheapest_cut(word, costs, longest=longest):
            used[piece] += count
    loss: dict[str, float] = {}
    for piece, cost in costs.items():
        if len(piece) > 1:
            parts = cheapest_cut(piece, _within(piece, costs))
            loss[piece] = used[piece] * (sum(costs[part] for part in parts) - cost)
    best = set(sorted(loss, key=lambda piece: (-loss[piece], piece))[:size])
    return {piece: cost for piece, cost in costs.items() if len(piece) == 1 or piece in best}


def _within(piece: str, costs: Mapping[str, float]) -> dict[str, float]:
    """The known pieces that are proper parts of a piece."""
    size = len(piece)
    parts = {piece[a:b] for a in range(size) for b in range(a + 1, size + 1) if (a, b) != (0, size)}
    return {part: costs[part] for part in parts if part in costs}


def word_counts(sentences: Iterable[Sequence[str]]) -> Counter[str]:
    """How often each word stands in some sentences."""
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(sentence)
    return counts
