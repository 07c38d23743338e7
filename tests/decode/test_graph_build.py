"""Graphs built from parts: every sentence, pronunciation and cost against plain enumeration."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

from uyir.decode.arcs import Arcs
from uyir.decode.graph import Graph
from uyir.decode.graph_build import build_graph
from uyir.decode.graph_parts import free_grammar, lm_acceptor, word_table
from uyir.decode.graph_reduce import contract, merge_equal_states
from uyir.decode.graph_splices import Root
from uyir.decode.graph_watch import Limits
from uyir.decode.lm import NgramModel, Vocabulary, train
from uyir.errors import GraphError
from uyir.grammar.join import bare, closes, join
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import WORD_END, Symbols, tokens_table
from uyir.lexicon.user import Entry, UserLexicon

pynini = pytest.importorskip("pynini")

Sentence = tuple[str, ...]
TOKENS = tokens_table()
#: Of a network that hears where words end.
TOKENS_WITH_ENDS = tokens_table(word_ends=True)

#: Paths of the toy grammar: one word's subwords. Some begin others, some sound alike, some meet in a
#: geminate, and அக்+ +கா+ has a subword with no sound of its own.
WORDS: dict[str, list[Sentence]] = {
    "ta": [
        ("படி+", "+த்த்+", "+ஆன்"),
        ("படி+", "+த்த்+", "+ஆள்"),
        ("பட+", "+த்த்+", "+இல்"),
        ("படி",),
        ("மரம்",),
        ("மர+", "+த்த்+", "+இல்"),
        ("அக்+", "+கா"),
        ("அக்+", "+க்+", "+ஆ"),
        ("மனம்",),
        ("மநம்",),
    ],
    "kn": [
        ("ಮಾಡ್+", "+ಇದ್+", "+ಅನು"),
        ("ಮಾಡ್+", "+ಉತ್ತ್+", "+ಆನೆ"),
        ("ಮಾಡು",),
        ("ಮನೆ",),
        ("ಮನೆ+", "+ಯಲ್ಲಿ"),
        ("ಅಕ್+", "+ಕ"),
        ("ಮರ",),
    ],
}
CORPUS: dict[str, list[list[int]]] = {
    "ta": [[0, 4], [1], [5, 2, 3], [0, 5], [4, 0], [0, 4], [6, 7, 8], [9], [5, 2], [6]],
    "kn": [[0, 3], [1, 2], [4, 0], [0, 3], [5, 6], [3, 1], [4, 0, 2]],
}
LANGUAGES = ("ta", "kn")


def flat(language: str, numbers: tuple[int, ...]) -> Sentence:
    return tuple(piece for number in numbers for piece in WORDS[language][number])


def make_table(language: str, splices: tuple[str, ...] = ()) -> Symbols:
    return word_table({p for word in WORDS[language] for p in word}, splices)


def make_model(language: str, table: Symbols, order: int = 3) -> NgramModel:
    vocabulary = Vocabulary.of_table(table)
    text = vocabulary.encode([flat(language, tuple(row)) for row in CORPUS[language]])
    return train(text, vocabulary, order)


def make_grammar(
    language: str, table: Symbols, splices: Optional[dict[str, str]] = None, weight: float = 0.0
) -> Any:
    """SG by hand; a splice symbol goes where this piece goes."""
    paths = []
    for number, word in enumerate(WORDS[language]):
        labels = [table.id(piece) for piece in word]
        fst = pynini.Fst()
        for _ in range(len(labels) + 1):
            fst.add_state()
        fst.set_start(0).set_final(len(labels), weight * number)
        for i, label in enumerate(labels):
            fst.add_arc(i, pynini.Arc(label, label, 0, i + 1))
            for symbol, like in (splices or {}).items():
                if word[i] == like:
                    other = table.id(symbol)
                    fst.add_arc(i, pynini.Arc(other, other, 0, i + 1))
        paths.append(fst)
    whole = pynini.union(*paths) if len(paths) > 1 else paths[0]
    return pynini.determinize(pynini.rmepsilon(whole)).minimize()


def lm_cost(model: Optional[NgramModel], sentence: Sentence) -> float:
    """The cheapest way through the back-off model, which may back off though it need not."""
    if model is None:
        return 0.0
    table: dict[Sentence, tuple[float, float]] = {}
    for n, order in enumerate(model.orders):
        for row, p, b in zip(model.ngrams(n).tolist(), order.logp, order.logb):
            table[tuple(model.symbols[i] for i in row)] = (-float(p), -float(b))
    states = {("<s>",): 0.0}
    for word in (*sentence, "</s>"):
        # Back off as often as one likes, then take an n-gram that is there.
        after: dict[Sentence, float] = {}
        for history, paid in states.items():
            while True:
                if (*history, word) in table:
                    gram = (*history, word)
                    cost = paid + table[gram][0]
                    gram = gram[max(0, len(gram) - model.order + 1) :]
                    while gram and gram not in table:
                        gram = gram[1:]
                    after[gram] = min(after.get(gram, math.inf), cost)
                if not history:
                    break
                paid += table.get(history, (0.0, 0.0))[1]
                history = history[1:]
        states = after
    return min(states.values())


def speak(
    language: str,
    sentence: Sentence,
    variants: bool,
    seams: str = "exact",
    tokens: Symbols = TOKENS,
) -> dict[tuple[int, ...], float]:
    """Every pronunciation of a sentence, token ids -> cost."""
    words, rest = [], list(sentence)
    while rest:
        end = next(i for i, piece in enumerate(rest) if not piece.endswith("+")) + 1
        words.append(join(rest[:end], language))
        rest = rest[end:]
    found = {(): 0.0}
    # What stands alone to the rules: a word, or each of its subwords.
    for word in words if seams == "exact" else sentence:
        longer: dict[tuple[int, ...], float] = {}
        end = (WORD_END,) if WORD_END in tokens and closes(word) else ()
        for made in load_g2p(language).pronounce(bare(word), variants=variants, limit=1000):
            ids = tuple(tokens.id(phone) for phone in (*made.phones, *end))
            for before, cost in found.items():
                key = before + ids
                longer[key] = min(longer.get(key, math.inf), cost + made.weight)
        found = longer
    return found


def read(graph: Graph, tokens: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Every word sequence of LG for these tokens, with its least cost."""
    arcs = graph.lexical
    offsets = arcs.offsets
    front = {(arcs.start, ()): 0.0}

    def move(here: dict[Any, float], label: int) -> dict[Any, float]:
        out: dict[Any, float] = {}
        for (state, words), cost in here.items():
            for arc in range(offsets[state], offsets[state + 1]):
                if arcs.ilabel[arc] == label:
                    word = graph.expand(int(arcs.olabel[arc]))
                    key = (int(arcs.target[arc]), words + word)
                    out[key] = min(out.get(key, math.inf), cost + float(arcs.weight[arc]))
        return out

    def closed(here: dict[Any, float]) -> dict[Any, float]:
        total, fresh = dict(here), here
        while fresh:
            fresh = {k: c for k, c in move(fresh, 0).items() if c < total.get(k, math.inf) - 1e-7}
            total.update(fresh)
        return total

    front = closed(front)
    for token in tokens:
        front = closed(move(front, token + 1))
    ends: dict[tuple[int, ...], float] = {}
    for (state, words), cost in front.items():
        whole = cost + float(arcs.final[state])
        if whole < math.inf:
            ends[words] = min(ends.get(words, math.inf), whole)
    return ends


def assert_graph_is(
    graph: Graph,
    language: str,
    table: Symbols,
    sentences: dict[Sentence, float],
    longest: int,
    variants: bool,
    seams: str = "exact",
    tokens: Symbols = TOKENS,
) -> None:
    """That the graph accepts exactly these sentences, of up to so many words, at these costs."""
    want: dict[tuple[int, ...], dict[tuple[int, ...], float]] = {}
    for sentence, cost in sentences.items():
        ids = tuple(table.id(piece) for piece in sentence)
        for heard, extra in speak(language, sentence, variants, seams, tokens).items():
            known = want.setdefault(heard, {})
            known[ids] = min(known.get(ids, math.inf), cost + extra)
    closing = {i for i, symbol in enumerate(table) if i and not symbol.endswith("+")}
    for heard, expected in want.items():
        have = {
            words: cost
            for words, cost in read(graph, heard).items()
            if sum(word in closing for word in words) <= longest
        }
        assert have.keys() == expected.keys(), [tokens.symbol(t) for t in heard]
        for words, cost in expected.items():
            # Costs are rounded to 1/1024 an arc.
            assert have[words] == pytest.approx(cost, abs=0.01)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("variants", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_whole_graph_equals_enumeration(language: str, variants: bool, order: int) -> None:
    table = make_table(language)
    model = make_model(language, table, order)
    graph, report = build_graph(
        language,
        table,
        TOKENS,
        model=model,
        grammar=make_grammar(language, table),
        variants=variants,
    )
    numbers = range(len(WORDS[language]))
    sentences = {}
    for length in (1, 2):
        for picked in itertools.product(numbers, repeat=length):
            sentence = flat(language, picked)
            sentences[sentence] = lm_cost(model, sentence)
    assert_graph_is(graph, language, table, sentences, 2, variants)
    assert report.arcs == graph.lexical.num_arcs and report.hlg_arcs == graph.num_arcs
    assert graph.num_tokens == len(TOKENS) and graph.num_words == len(table)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("variants", [False, True])
def test_context_free_graph_equals_enumeration(language: str, variants: bool) -> None:
    table = make_table(language)
    model = make_model(language, table, 2)
    graph, _ = build_graph(
        language,
        table,
        TOKENS,
        model=model,
        grammar=make_grammar(language, table),
        variants=variants,
        seams="context-free",
    )
    sentences = {}
    for picked in itertools.product(range(len(WORDS[language])), repeat=2):
        sentence = flat(language, picked)
        sentences[sentence] = lm_cost(model, sentence)
    assert_graph_is(graph, language, table, sentences, 2, variants, "context-free")
    # It does hear some of the sentences otherwise than their words are spoken.
    assert any(
        speak(language, s, False) != speak(language, s, False, "context-free") for s in sentences
    )
    with pytest.raises(GraphError, match="want one of exact, context-free"):
        build_graph(language, table, TOKENS, seams="none")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("seams", ["exact", "context-free"])
def test_every_word_ends_where_the_network_hears_ends(language: str, seams: str) -> None:
    whole = next(word[0] for word in WORDS[language] if len(word) == 1)
    splices = {"<splice:#>": whole}
    table = make_table(language, tuple(splices))
    model = make_model(language, table, 2)
    graph, _ = build_graph(
        language,
        table,
        TOKENS_WITH_ENDS,
        model=model,
        grammar=make_grammar(language, table, splices),
        seams=seams,
    )
    sentences = {}
    for picked in itertools.product(range(len(WORDS[language])), repeat=2):
        sentence = flat(language, picked)
        sentences[sentence] = lm_cost(model, sentence)
    assert_graph_is(graph, language, table, sentences, 2, True, seams, TOKENS_WITH_ENDS)
    # A root that enters as a whole word ends like one.
    said = tuple(TOKENS_WITH_ENDS.id(phone) for phone in ("z", "oo", "f"))
    more = graph.with_roots([Root("#", 0, said, len(table))])
    assert not read(more, said)
    assert (len(table),) in read(more, (*said, TOKENS_WITH_ENDS.id(WORD_END)))


@pytest.mark.parametrize("seams", ["exact", "context-free"])
def test_a_users_pronunciations_stand_in_the_graph(seams: str) -> None:
    splices = {"<splice:v.past>": "படி+"}
    table = make_table("ta", tuple(splices))
    user = UserLexicon(
        "ta",
        {"மரம்": (Entry(("m", "r", "a", "m"), 0.5), Entry(("t", "r", "ii"), 0.25))},
        {"+இல்": (Entry(("e", "l"), 0.75),)},
    )
    graph, _ = build_graph(
        "ta",
        table,
        TOKENS,
        grammar=make_grammar("ta", table, splices),
        variants=False,
        user=user,
        seams=seams,
    )

    def cost(phones: str, *pieces: str) -> Optional[float]:
        found = read(graph, tuple(TOKENS.id(phone) for phone in phones.split()))
        return found.get(tuple(table.id(piece) for piece in pieces))

    assert cost("m a r a m", "மரம்") is None
    assert cost("m r a m", "மரம்") == pytest.approx(0.5, abs=0.01)
    assert cost("t r ii", "மரம்") == pytest.approx(0.25, abs=0.01)
    assert cost("m a n a m", "மனம்") == 0
    assert cost("m a r a tt e l", "மர+", "+த்த்+", "+இல்") == pytest.approx(0.75, abs=0.01)
    assert {splice.key for splice in graph.splices} == {"v.past"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_epsilon_free_graph_equals_enumeration(language: str) -> None:
    table = make_table(language)
    model = make_model(language, table, 2)
    graph, _ = build_graph(
        language, table, TOKENS, model=model, grammar=make_grammar(language, table), variants=False
    )
    sentences = {}
    for picked in itertools.product(range(len(WORDS[language])), repeat=2):
        sentence = flat(language, picked)
        sentences[sentence] = lm_cost(model, sentence)
    free = graph.epsilon_free()
    assert_graph_is(free, language, table, sentences, 2, False)
    into = free.lexical.target[free.lexical.ilabel == 0]
    assert not np.isin(free.lexical.source, into).any()


def test_without_a_model_the_grammar_stands_alone() -> None:
    table = make_table("ta")
    graph, _ = build_graph(
        "ta",
        table,
        TOKENS,
        grammar=make_grammar("ta", table, weight=0.5),
        sg_scale=2.0,
        variants=False,
    )
    sentences = {word: 1.0 * number for number, word in enumerate(WORDS["ta"])}
    assert_graph_is(graph, "ta", table, sentences, 1, False)


@pytest.mark.parametrize("with_model", [False, True])
def test_a_subword_that_leads_to_several_states_at_several_costs(with_model: bool) -> None:
    """As unknown roots and the roots of the lists do in a weighted grammar."""
    table = make_table("ta")
    model = make_model("ta", table) if with_model else None
    # Two ways for each word, the later one cheaper; every word starts from a state of its own.
    paths = []
    for cost in (3.0, 1.0):
        for number, word in enumerate(WORDS["ta"]):
            fst = pynini.Fst()
            fst.add_states(len(word) + 1)
            fst.set_start(0).set_final(len(word), number)
            for i, piece in enumerate(word):
                label = table.id(piece)
                fst.add_arc(i, pynini.Arc(label, label, 0.0 if i else cost, i + 1))
            paths.append(fst)
    grammar = pynini.rmepsilon(pynini.union(*paths))
    graph, _ = build_graph(
        "ta", table, TOKENS, model=model, grammar=grammar, sg_scale=0.5, variants=False
    )
    sentences = {}
    for picked in itertools.product(range(len(WORDS["ta"])), repeat=2):
        sentence = flat("ta", picked)
        sentences[sentence] = lm_cost(model, sentence) + 0.5 * sum(1.0 + n for n in picked)
    for n in range(len(WORDS["ta"])):
        sentence = flat("ta", (n,))
        sentences[sentence] = lm_cost(model, sentence) + 0.5 * (1.0 + n)
    assert_graph_is(graph, "ta", table, sentences, 2, variants=False)
    # At no scale the costs are out, and what is the same is one.
    plain, _ = build_graph("ta", table, TOKENS, model=model, grammar=grammar, variants=False)
    assert plain.lexical.num_arcs <= graph.lexical.num_arcs
    (cost,) = read(plain, next(iter(speak("ta", ("மரம்",), False)))).values()
    assert cost == pytest.approx(lm_cost(model, ("மரம்",)), abs=0.01)


def test_every_word_costs_what_is_asked() -> None:
    table = make_table("ta")
    graph, _ = build_graph(
        "ta", table, TOKENS, grammar=make_grammar("ta", table), word_cost=1.5, variants=False
    )
    sentences: dict[Sentence, float] = dict.fromkeys(WORDS["ta"], 1.5)
    assert_graph_is(graph, "ta", table, sentences, 1, False)


def test_without_a_grammar_the_marks_still_hold() -> None:
    table = make_table("kn")
    model = make_model("kn", table)
    graph, _ = build_graph("kn", table, TOKENS, model=model, variants=False)
    pieces = [symbol for symbol in table if not symbol.startswith(("<", "#"))]
    sentences = {}
    for length in (1, 2, 3):
        for row in itertools.product(pieces, repeat=length):
            inside = False
            for piece in row:
                if piece.startswith("+") != inside:
                    break
                inside = piece.endswith("+")
            else:
                if not inside and sum(not p.endswith("+") for p in row) == 1:
                    sentences[row] = lm_cost(model, row)
    assert_graph_is(graph, "kn", table, sentences, 1, False)


def test_roots_spliced_into_a_built_graph_are_found_in_all_their_forms(tmp_path: Path) -> None:
    splices = {"<splice:v.past>": "படி+", "<splice:#>": "மரம்"}
    table = make_table("ta", tuple(splices))
    model = make_model("ta", table)
    graph, report = build_graph(
        "ta",
        table,
        TOKENS,
        model=model,
        grammar=make_grammar("ta", table, splices),
        variants=False,
        splice_cost=4.0,
    )
    assert report.splices == len(graph.splices) > 0
    assert {s.key for s in graph.splices} == {"v.past", "#"}
    graph.save(tmp_path / "g")
    graph = Graph.load(tmp_path / "g")
    new = len(table)
    phones = {
        word: tuple(TOKENS.id(p) for p in load_g2p("ta").pronounce(word, variants=False)[0].phones)
        for word in ("குதி", "குதித்தான்", "குதித்தாள்", "குதிரை", "மரம்", "படித்தான்")
    }
    grown = graph.with_roots(
        [
            Root("v.past", 0, phones["குதி"], new),
            Root("#", 0, phones["குதிரை"], new + 1, 0.5),
        ]
    )
    ids = {piece: table.id(piece) for piece in ("+த்த்+", "+ஆன்", "+ஆள்", "மரம்")}
    for spoken, words in (
        (phones["குதித்தான்"], (new, ids["+த்த்+"], ids["+ஆன்"])),
        (phones["குதித்தாள்"], (new, ids["+த்த்+"], ids["+ஆள்"])),
        (phones["குதிரை"], (new + 1,)),
        (phones["மரம்"] + phones["குதிரை"], (ids["மரம்"], new + 1)),
        (
            phones["குதித்தான்"] + phones["குதிரை"] + phones["மரம்"],
            (new, ids["+த்த்+"], ids["+ஆன்"], new + 1, ids["மரம்"]),
        ),
    ):
        assert words in read(grown, spoken)
        assert words not in read(graph, spoken)
    # What was there before is there still, at the same cost.
    assert read(grown, phones["படித்தான்"]) == read(graph, phones["படித்தான்"])
    # And the topology of the grown graph takes it, as any other word.
    alignment = [token for token in phones["குதிரை"] for _ in range(2)]
    hlg = Graph(grown.arcs, grown.num_words, grown.num_tokens, ctc=False)
    assert any((new + 1,) == words for words in read(hlg, tuple(alignment)))


def test_lm_acceptor_has_every_ngram_once() -> None:
    table = make_table("ta")
    model = make_model("ta", table)
    lm = lm_acceptor(model, table)
    spoken = sum(
        int((np.array([model.symbols[w] for w in order.word]) != "</s>").sum())
        for order in model.orders
    )
    specials = 2  # <s> and <unk>, which nothing reads
    assert len(lm.word) == spoken - specials
    assert lm.backoff[0] == -1 and all(b >= 0 for b in lm.backoff[1:])


def test_words_that_the_model_does_not_know() -> None:
    table = make_table("ta")
    model = make_model("ta", table, 2)
    larger = word_table([*(s for s in table if s[0] not in "<#"), "குதிரை"])
    lm = lm_acceptor(model, larger)
    unknown = -float(model.orders[0].logp[model.symbols.index("<unk>")])
    arc = lm.word[: lm.begin[1]].index(larger.id("குதிரை"))
    assert lm.cost[arc] / 1024 == pytest.approx(unknown, abs=1e-3)
    deaf = NgramModel(tuple("?" if s == "<unk>" else s for s in model.symbols), model.orders)
    with pytest.raises(GraphError, match=r"'குதிரை'.*no <unk>"):
        lm_acceptor(deaf, larger)


def test_limits_and_bad_parts() -> None:
    table = make_table("ta")
    model = make_model("ta", table)
    with pytest.raises(GraphError, match=r"states, more than the limit of 3"):
        build_graph("ta", table, TOKENS, model=model, limits=Limits(max_states=3))
    with pytest.raises(GraphError, match="GB of memory"):
        build_graph("ta", table, TOKENS, model=model, limits=Limits(max_memory=0.001))
    with pytest.raises(GraphError, match="accepts nothing"):
        build_graph("ta", table, TOKENS, model=model, grammar=pynini.Fst())
    silent = make_grammar("ta", table)
    silent.add_arc(silent.start(), pynini.Arc(0, 0, 0, next(iter(silent.arcs(0))).nextstate))
    with pytest.raises(GraphError, match="has epsilons"):
        build_graph("ta", table, TOKENS, model=model, grammar=silent)


def test_free_grammar_keeps_affixes_in_words() -> None:
    table = make_table("ta", ("<splice:n>",))
    free = free_grammar(table)
    outside = {table.symbol(word) for word in free.follow[0]}
    assert outside == {s for s in table if s[0] not in "+<#"}
    assert free.splices == [(table.id("<splice:n>"), 1)]


def random_arcs(seed: int) -> Arcs:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(24):
        rows.append((*rng.integers(8, size=2), rng.integers(1, 3), rng.integers(3) // 2))
    for _ in range(8):
        a, b = sorted(rng.choice(8, 2, replace=False))
        rows.append((a, b, 0, rng.integers(3)))
    src, dst, ilabel, olabel = zip(*rows)
    weight = rng.integers(0, 3, len(rows)) / 4
    final = np.where(rng.uniform(size=8) < 0.3, 0.5, np.inf)
    final[7] = 0.0
    return Arcs.build(src, dst, ilabel, olabel, weight, 0, final)


@pytest.mark.parametrize("seed", range(15))
def test_contraction_and_merging_keep_everything(seed: int) -> None:
    arcs = random_arcs(seed).connected()
    small = merge_equal_states(contract(arcs))
    assert (small.ilabel == 0).sum() <= (arcs.ilabel == 0).sum()
    for length in range(5):
        for labels in itertools.product((0, 1), repeat=length):
            want = read(Graph(arcs, 3, 2, ctc=False), labels)
            have = read(Graph(small, 3, 2, ctc=False), labels)
            assert have.keys() == want.keys()
            for words, cost in want.items():
                assert have[words] == pytest.approx(cost, abs=1e-4)


def test_merging_pasts_makes_one_arc_of_what_was_guessed() -> None:
    # Two arcs of token 1 lead to states that differ in what follows only.
    arcs = Arcs.build(
        [0, 0, 1, 2], [1, 2, 3, 3], [2, 2, 3, 4], [0, 0, 1, 2], [0, 1, 0, 0], 0, [np.inf] * 3 + [0]
    )
    merged = merge_equal_states(arcs)
    assert merged.num_states == 3 and merged.num_arcs == 3
    graph = Graph(merged, 3, 5, ctc=False)
    assert read(graph, (1, 2)) == {(1,): 0.0} and read(graph, (1, 3)) == {(2,): 1.0}


def test_equal_builds_are_equal_files(tmp_path: Path) -> None:
    table = make_table("kn")
    lines: list[str] = []
    files = []
    for name in ("one", "two"):
        graph, report = build_graph(
            "kn",
            table,
            TOKENS,
            model=make_model("kn", table),
            grammar=make_grammar("kn", table),
            say=lines.append,
            meta={"a": 1},
        )
        graph.save(tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert any("estimate" in line for line in lines)
    meta = Graph.load(tmp_path / "one").meta
    assert meta["a"] == 1 and meta["counts"]["hlg_arcs"] == report.hlg_arcs == graph.num_arcs
    assert report.epsilons == int((graph.lexical.ilabel == 0).sum())
    assert json.loads(json.dumps(report.as_dict()))["steps"][0]["step"] == "LM"
