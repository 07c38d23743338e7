"""From what a search found to words: subwords joined, with times, confidence, category and gloss."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from uyir.decode.calibration import Calibration
from uyir.decode.engines import Engine, create
from uyir.decode.evidence import Alignment, word_evidence
from uyir.decode.hypothesis import FloatArray, Hypothesis, spans_by_pronunciation
from uyir.decode.pauses import Stretch
from uyir.decode.tables import Analyses, read_subwords, read_vocabulary
from uyir.decode.transcript import (
    Alternative,
    Segment,
    SpokenSubword,
    SpokenWord,
    mean_confidence,
)
from uyir.errors import GraphError, ModelError, ScriptError
from uyir.grammar.join import bare, closes, join, opens
from uyir.grammar.script import NORMALISER_VERSION
from uyir.lexicon.symbols import WORD_END

if TYPE_CHECKING:
    from uyir.decode.graph import Graph
    from uyir.decode.rescore import Rescorer
    from uyir.decode.transcribe import Recogniser

SAMPLE_RATE = 16000
#: A pause of so many seconds inside of a word parts it, where both parts can be words. On real sentences read
#: slowly no right word had a pause of more than 0.20 s in it, and words written together wrongly 0.36 s and more.
PAUSE_S = 0.3
#: Words whose spelling and pronunciations are kept in memory.
_MOST_WORDS = 200_000


class SpokenLanguage:
    """What turns hypotheses of one language into words. Read one with `SpokenLanguage.read`."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        words: Sequence[str],
        tokens: Mapping[str, int],
        frame_s: float,
        vocabulary: Optional[frozenset[str]],
        analyses: Optional[Analyses],
        calibration: Optional[Calibration] = None,
    ) -> None:
        self.name = name
        self._calibration = calibration
        self.engine = engine
        self._words = words
        self._tokens = tokens
        self._frame_s = frame_s
        self._vocabulary = vocabulary
        self._subwords = analyses
        self._pronunciations: dict[str, list[tuple[int, ...]]] = {}
        self._joined: dict[tuple[int, ...], str] = {}
        self._numbers: dict[str, int] = {}
        self._analyses: dict[tuple[str, ...], tuple[tuple[str, str], ...]] = {}

    @classmethod
    def read(cls, recogniser: Recogniser, language: str) -> SpokenLanguage:
        from uyir.decode.graph import Graph
        from uyir.lexicon.symbols import Symbols, table_file

        folder = recogniser.graphs / language
        if language not in recogniser._model.config.languages or not folder.is_dir():
            there = ", ".join(recogniser.languages) or "none"
            raise ModelError(f"{recogniser.folder}: no {language!r} in this model; it has {there}")
        for name in ("words.txt", "HLG.safetensors", "meta.json"):
            if not table_file(folder / name).is_file():
                raise ModelError(f"{folder / name}: missing from the model folder")
        meta = _read_json(folder / "meta.json")
        normaliser = meta.get("normaliser", NORMALISER_VERSION)
        if str(normaliser) != NORMALISER_VERSION:
            raise ModelError(
                f"{folder / 'meta.json'}: made with normaliser {normaliser}, this is "
                f"{NORMALISER_VERSION}: build the graph again"
            )
        words = Symbols.read(folder / "words.txt")
        graph = Graph.load(
            folder / "HLG.safetensors",
            tokens=recogniser.folder / "tokens.txt",
            words=folder / "words.txt",
        )
        if graph.num_tokens != len(recogniser._tokens):
            raise GraphError(
                f"{folder / 'HLG.safetensors'}: {graph.num_tokens} tokens, the network has "
                f"{len(recogniser._tokens)}"
            )
        listed = list(words)
        graph = _with_added(recogniser, language, graph, listed, meta)
        options = recogniser.search_options
        scale = recogniser.scales.get(language, meta.get("acoustic_scale"))
        if recogniser.tuned and scale is not None:
            options = replace(options, acoustic_scale=scale)
        engine = create(
            recogniser.engine,
            graph,
            options,
            device=recogniser.device,
            rescorer=_rescorer(recogniser, folder, meta),
        )
        frontend = recogniser._model.config.frontend
        return cls(
            language,
            engine,
            listed,
            {token: i for i, token in enumerate(recogniser._tokens)},
            # The network's subsampling: four feature frames become one.
            4 * frontend.frame_shift / frontend.sample_rate,
            read_vocabulary(folder),
            read_subwords(folder),
            recogniser.calibration,
        )

    def segment(
        self,
        part: Stretch,
        hypotheses: Sequence[Hypothesis],
        log_probs: Optional[FloatArray] = None,
        keep: Optional[int] = None,
    ) -> Segment:
        """The best hypothesis as words with times, the others (``keep`` in all) as texts.

        With the stretch's ``log_probs`` (T, C) and the model's calibration a word's confidence is how
        often such a word is right; without, the mean of its subwords'.
        """
        alignment = None
        if self._calibration is not None and log_probs is not None:
            alignment = Alignment(hypotheses[0], log_probs)
        word_end = self._tokens.get(WORD_END)
        if word_end is not None:
            hypotheses = [hypothesis.without(word_end) for hypothesis in hypotheses]
        hypotheses = [self._parted(hypothesis) for hypothesis in hypotheses]
        best = hypotheses[0]
        begin, end = part.begin / SAMPLE_RATE, part.end / SAMPLE_RATE
        words = self._spoken(best, begin, end, alignment)
        several = hypotheses[:keep] if len(hypotheses[:keep]) > 1 else ()
        alternatives = tuple(
            Alternative(
                " ".join(self._join([h.subwords[p] for p in group]) for group in self._grouped(h)),
                round(h.score, 3),
            )
            for h in several
        )
        return Segment(
            start=words[0].start if words else round(begin, 3),
            end=words[-1].end if words else round(end, 3),
            text=" ".join(word.word for word in words),
            words=words,
            confidence=mean_confidence(word.confidence for word in words),
            final=best.final,
            alternatives=alternatives,
        )

    def _parted(self, hypothesis: Hypothesis) -> Hypothesis:
        """The hypothesis with words parted at the seams where the speaker pauses.

        What stands before and after such a seam must be able to close and to open a word: the word
        table then has these pieces with other marks.
        """
        runs = hypothesis.runs
        least = PAUSE_S / self._frame_s
        paused = [k for k in range(1, len(runs)) if runs[k].begin - runs[k - 1].end >= least]
        groups = self._grouped(hypothesis)
        if not paused or all(len(group) == 1 for group in groups):
            return hypothesis
        texts = [self._join([hypothesis.subwords[p] for p in group]) for group in groups]
        spans = spans_by_pronunciation(runs, [self._pronounced(text) for text in texts])
        begins = [run.begin for run in runs]
        subwords = list(hypothesis.subwords)
        for group, span in zip(groups, spans or ()):
            inside = [k for k in paused if span[0] < k < span[1]]
            if not inside or len(group) == 1:
                continue
            marked = [self._words[subwords[p]] for p in group]
            cuts = self._cuts(hypothesis, group, marked, span)
            for k in inside:
                # Phones are counted from the pieces' own pronunciation: a seam may lie one off.
                near = [
                    (abs(bisect_left(begins, cuts[i]) - k), i)
                    for i in range(1, len(group))
                    if self._separable(marked[i - 1], marked[i])
                ]
                off, seam = min(near, default=(2, 0))
                if off <= 1:
                    left, right = group[seam - 1], group[seam]
                    subwords[left] = self._number(self._words[subwords[left]].rstrip("+"))
                    subwords[right] = self._number(self._words[subwords[right]].lstrip("+"))
        return replace(hypothesis, subwords=tuple(subwords))

    def _separable(self, left: str, right: str) -> bool:
        return self._number(left.rstrip("+")) >= 0 and self._number(right.lstrip("+")) >= 0

    def _number(self, marked: str) -> int:
        """A symbol's number in the word table, or -1."""
        if not self._numbers:
            self._numbers = {symbol: number for number, symbol in enumerate(self._words)}
        return self._numbers.get(marked, -1)

    def _grouped(self, hypothesis: Hypothesis) -> list[list[int]]:
        """The positions of each word's subwords, orphans kept as `grammar.join` keeps them.

        Symbols in angle brackets are sounds, not words.
        """
        groups: list[list[int]] = []
        inside = False
        for position, number in enumerate(hypothesis.subwords):
            marked = self._words[number]
            if marked.startswith("<"):
                inside = False
                continue
            if inside and not opens(marked):
                groups[-1].append(position)
            else:
                groups.append([position])
            inside = not closes(marked)
        return groups

    def _join(self, numbers: Sequence[int]) -> str:
        key = tuple(numbers)
        word = self._joined.get(key)
        if word is None:
            marked = [self._words[number] for number in numbers]
            try:
                word = join(marked, self.name)
            except ScriptError:  # an orphan that no letter can begin with; nothing heard is lost
                word = "".join(map(bare, marked))
            if len(self._joined) >= _MOST_WORDS:
                self._joined.clear()
            self._joined[key] = word
        return word

    def _spoken(
        self, best: Hypothesis, begin: float, end: float, alignment: Optional[Alignment]
    ) -> tuple[SpokenWord, ...]:
        groups = self._grouped(best)
        texts = [self._join([best.subwords[p] for p in group]) for group in groups]
        spans = spans_by_pronunciation(best.runs, [self._pronounced(text) for text in texts])
        out = []
        for index, (group, text) in enumerate(zip(groups, texts)):
            marked = tuple(self._words[best.subwords[p]] for p in group)
            if spans is not None and spans[index][0] < spans[index][1]:
                cuts = self._cuts(best, group, marked, spans[index])
            else:
                cuts = [*(best.times[p] for p in group), best.ends[group[-1]]]
            subwords = tuple(
                SpokenSubword(
                    bare(piece),
                    piece,
                    category,
                    gloss,
                    self._seconds(cuts[i], begin, end),
                    self._seconds(cuts[i + 1], begin, end),
                    round(best.confidences[p], 3),
                )
                for i, (p, piece, (category, gloss)) in enumerate(
                    zip(group, marked, self._analysed(text, marked))
                )
            )
            out.append(
                SpokenWord(
                    text,
                    self._seconds(cuts[0], begin, end),
                    self._seconds(cuts[-1], begin, end),
                    self._confidence(best, alignment, group, cuts, len(groups)),
                    None if self._vocabulary is None else text not in self._vocabulary,
                    subwords,
                )
            )
        return tuple(out)

    def _confidence(
        self,
        best: Hypothesis,
        alignment: Optional[Alignment],
        group: Sequence[int],
        cuts: Sequence[int],
        words: int,
    ) -> float:
        """How likely a word is right. ``cuts``: the frames where its pieces begin, and its end."""
        if self._calibration is None or alignment is None:
            return mean_confidence(best.confidences[p] for p in group)
        spelled = sum(len(bare(self._words[best.subwords[p]])) == 1 for p in group) / len(group)
        evidence = word_evidence(best, alignment, group, cuts, spelled, words)
        return self._calibration.confidence(evidence)

    def _cuts(
        self, best: Hypothesis, group: Sequence[int], marked: Sequence[str], span: tuple[int, int]
    ) -> list[int]:
        """The frames between the subwords of a word that covers these runs, and its ends.

        A label comes out with some token of its subword, at the latest its last. So a seam lies
        between two labels' tokens; where exactly is told by how many phones the pieces before it have.
        """
        runs = best.runs[span[0] : span[1]]
        begins = [run.begin for run in runs]
        cuts, spoken = [begins[0]], 0
        for i, (here, there) in enumerate(zip(group, group[1:])):
            low = bisect_right(begins, best.times[here])
            high = max(low, bisect_right(begins, best.times[there]) - 1)
            spoken += self._phones(marked[i])
            at = min(max(spoken, low), high, len(runs) - 1)
            cuts.append(max(cuts[-1], begins[at]))
        return [*cuts, runs[-1].end]

    def _phones(self, marked: str) -> int:
        """About how many phones a piece has: seams may make one of two."""
        found = self._pronounced(bare(marked))
        return len(found[0]) if found else len(bare(marked))

    def _seconds(self, frame: int, begin: float, end: float) -> float:
        return round(min(begin + frame * self._frame_s, end), 3)

    def _pronounced(self, word: str) -> list[tuple[int, ...]]:
        """The token sequences a word may be spoken as; none if the rules do not know it."""
        from uyir.lexicon.g2p import load_g2p

        if word not in self._pronunciations:
            if len(self._pronunciations) >= _MOST_WORDS:
                self._pronunciations.clear()
            try:
                found = load_g2p(self.name).pronounce(word)
            except ScriptError:
                found = []
            self._pronunciations[word] = [
                tuple(self._tokens[phone] for phone in pronunciation.phones)
                for pronunciation in found
                if all(phone in self._tokens for phone in pronunciation.phones)
            ]
        return self._pronunciations[word]

    def _analysed(self, word: str, marked: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Category and gloss of each subword, from the model's table or by the segmenter.

        Where the latter cuts the word differently, the root's category still says what kind of word
        it is.
        """
        if self._subwords is not None:
            return tuple(self._subwords.get(piece, ("other", "")) for piece in marked)
        from uyir.grammar.segment import load_segmenter

        if marked not in self._analyses:
            try:
                analysis = load_segmenter(self.name).segment(word)
            except ScriptError:
                self._analyses[marked] = tuple(("other", "") for _ in marked)
            else:
                known = {piece.marked: piece for piece in analysis.subwords}
                self._analyses[marked] = tuple(
                    (known[piece].category, known[piece].gloss)
                    if piece in known
                    else (analysis.category, "")
                    for piece in marked
                )
        return self._analyses[marked]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: want a JSON object")
    return values


def _rescorer(recogniser: Recogniser, folder: Path, meta: Mapping[str, Any]) -> Optional[Rescorer]:
    """The larger language model that was asked for, or that the language's folder has."""
    from uyir.decode.rescore import read_rescorer, rescoring_file

    path = rescoring_file(recogniser.rescore, folder)
    if path is None:
        return None
    lm_sha256 = meta.get("lm_sha256")
    return read_rescorer(path, folder / "words.txt", lm_sha256, recogniser.rescore_scale)


def _with_added(
    recogniser: Recogniser, language: str, graph: Graph, words: list[str], meta: Mapping[str, Any]
) -> Graph:
    """The graph with the user's added words and hotwords in it; ``words``, its table, grows."""
    from uyir.decode import added

    tokens = {token: i for i, token in enumerate(recogniser._tokens)}
    path = added.word_folder(recogniser.folder.name) / f"{language}.tsv"
    kept = added.read_words(path)
    if kept:
        placed = added.places_of(path, kept, language, added.graph_key(meta))
        graph = added.splice_words(graph, words, tokens, placed)
    if recogniser.hotwords is not None:
        hot = added.placed_hotwords(recogniser.hotwords, language)
        graph = added.boost(graph, words, tokens, hot, recogniser.hotword_gain)
    return graph
