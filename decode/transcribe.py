"""From recordings to words: the whole way, for any number of recordings.

>>> recogniser = load()                                                      # doctest: +SKIP
>>> [t.text for t in recogniser.transcribe(["a.wav"], language="ta")]         # doctest: +SKIP
['...']

Recordings are read one after the other, cut at pauses if long, batched with others of their length,
and given back in the order they came in. What is wrong with one recording is said in its
`Transcript.error`; the others are done all the same.
"""

from __future__ import annotations

import json
import math
import re
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import numpy.typing as npt

import uyir
from uyir import __version__
from uyir.decode.engines import Engine, SearchOptions, choose, create
from uyir.decode.hypothesis import Hypothesis, spans_by_pronunciation
from uyir.decode.pauses import Samples, Stretch, stretches
from uyir.decode.tables import Analyses, read_subwords, read_vocabulary
from uyir.errors import AudioError, GraphError, ModelError, ScriptError, UyirError
from uyir.grammar.join import bare, closes, join, opens
from uyir.grammar.script import NORMALISER_VERSION, load_script

if TYPE_CHECKING:
    import torch

    from uyir.asr.checkpoint import LoadedModel

MODELS = Path(uyir.__file__).parent / "models"
DEFAULT_MODEL = "base"
SAMPLE_RATE = 16000
#: Audio (s) read before it is recognised, unless one recording alone is longer.
GROUP_S = 600.0
#: A batch holds at most this many seconds, padding included.
BATCH_S = 160.0

Audio = Union[str, Path, npt.NDArray[Any]]


@dataclass(frozen=True)
class SpokenSubword:
    """One piece of a recognised word; times in seconds from the recording's beginning."""

    form: str
    marked: str
    category: str
    gloss: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class SpokenWord:
    """One recognised word. ``oov``: whether it is outside the vocabulary of the language model's
    training text; None where the model folder does not carry that vocabulary."""

    word: str
    start: float
    end: float
    confidence: float
    oov: Optional[bool]
    subwords: tuple[SpokenSubword, ...]


@dataclass(frozen=True)
class Alternative:
    """Another reading of a segment; ``score`` is natural logarithm, comparable within a segment."""

    text: str
    score: float


@dataclass(frozen=True)
class Segment:
    """What was recognised at a stretch. ``final``: whether the search came to a proper end;
    ``alternatives`` are the n-best texts, the first being this one (empty without n-best)."""

    start: float
    end: float
    text: str
    words: tuple[SpokenWord, ...]
    confidence: float
    final: bool
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """All that is known of one recording. ``no_speech``: not a word in it. ``rtf``: seconds it took
    for each second of audio (its share of the group it was recognised with). ``final``: whether
    every search came to a proper end. ``error``: why there is no transcript; then the rest is empty."""

    source: str
    language: str
    segments: tuple[Segment, ...]
    duration: float
    engine: str
    model: str
    normaliser: str = NORMALISER_VERSION
    version: str = __version__
    rtf: float = 0.0
    final: bool = True
    error: Optional[str] = None

    @property
    def words(self) -> tuple[SpokenWord, ...]:
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def no_speech(self) -> bool:
        return self.error is None and not self.words

    @property
    def confidence(self) -> float:
        return _mean(word.confidence for word in self.words)


def languages() -> list[str]:
    """The languages there is a grammar for."""
    from uyir.grammar.lists import LANGUAGE_DATA

    return sorted(path.parent.name for path in LANGUAGE_DATA.glob("*/script.tsv"))


def find_model(name: Optional[Union[str, Path]] = None) -> Path:
    """The folder of a model: a path, the name of a bundled one, or by default the bundled one.

    Raises `ModelError` listing what there is.
    """
    bundled = sorted(p.parent for p in MODELS.glob("*/config.json"))
    if name is None:
        if not (MODELS / DEFAULT_MODEL / "config.json").is_file():
            raise ModelError(f"no model is bundled in {MODELS}: name a model folder")
        return MODELS / DEFAULT_MODEL
    names = [folder.name for folder in bundled]
    if str(name) in names:
        return MODELS / str(name)
    if Path(name).is_dir():
        return Path(name)
    there = ", ".join(names) or "none"
    raise ModelError(f"{name}: no such model folder; bundled models: {there}")


def graph_folder(folder: Path) -> Path:
    """Where a model's graphs are: its own folder, or the one beside it that ``config.json`` names
    under ``graphs`` (models of one token table share their graphs). Raises `ModelError`."""
    path = folder / "config.json"
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("graphs")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: {error}") from None
    if name is None:
        return folder
    # A plain name: a model folder says nothing about the rest of the disk.
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ModelError(f"{path}: graphs {name!r}, want the name of a folder beside this one")
    if not (folder.parent / name).is_dir():
        raise ModelError(f"{path}: its graphs are those of {name!r}, which is not beside it")
    return folder.parent / name


def load(
    model: Optional[Union[str, Path]] = None,
    *,
    engine: Optional[str] = None,
    device: str = "cpu",
    options: Optional[SearchOptions] = None,
    batch_size: int = 16,
    tuned: bool = True,
) -> Recogniser:
    """A recogniser from a model folder or the name of a bundled model.

    ``tuned``: take the acoustic scale that a language's ``meta.json`` gives (``acoustic_scale``, found on
    development speech) instead of the one in ``options``, where it gives one.

    Raises `ModelError` for a folder that lacks a file or has a damaged one, `EngineError` for an
    engine that cannot run here. Graphs are read when their language is first asked for.
    """
    from uyir.asr.checkpoint import load_model

    if batch_size < 1:
        raise ModelError(f"batch_size is {batch_size}, want at least 1")
    folder = find_model(model)
    try:
        loaded = load_model(folder, device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise ModelError(f"device {device!r} cannot be used: {reason}") from None
    return Recogniser(
        folder,
        loaded,
        engine=engine if engine is not None else choose(device),
        device=device,
        options=options if options is not None else SearchOptions(),
        batch_size=batch_size,
        tuned=tuned,
    )


class Recogniser:
    """A model with its graphs, ready for recordings. Make one with `load`."""

    def __init__(
        self,
        folder: Path,
        loaded: LoadedModel,
        *,
        engine: str,
        device: str,
        options: SearchOptions,
        batch_size: int,
        tuned: bool,
    ) -> None:
        from uyir.asr.features import make_frontend

        self.folder = folder
        self.graphs = graph_folder(folder)
        self.engine = engine
        self.device = device
        self.options = options
        self.batch_size = batch_size
        self.tuned = tuned
        self._model = loaded.model
        self._tokens = loaded.tokens
        self._frontend = make_frontend(loaded.model.config.frontend)
        self._speakers: dict[str, _Language] = {}

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the model folder has a graph for."""
        have = (path.parent.name for path in self.graphs.glob("*/words.txt"))
        return tuple(sorted(set(have) & set(self._model.config.languages)))

    def transcribe(self, audio: Iterable[Audio], language: str) -> list[Transcript]:
        """Transcripts of recordings, in order; see `stream`."""
        return list(self.stream(audio, language))

    def stream(self, audio: Iterable[Audio], language: str) -> Iterator[Transcript]:
        """Yield a transcript for each recording, in order, as soon as its group is done.

        ``audio``: paths, or arrays (S,) of samples in ±1 at 16 kHz. Memory is bounded by
        `GROUP_S` seconds of audio or the longest recording. Raises `DataError` for an unknown
        language, `ModelError` or `GraphError` if the model cannot serve it; what is wrong with one
        recording goes into its `Transcript.error`.
        """
        spoken = self.language(language)
        group: list[_Item] = []
        held = 0.0
        for number, source in enumerate(audio):
            item = self._read(source, number)
            group.append(item)
            held += item.duration
            if held >= GROUP_S:
                yield from self._recognise(group, spoken)
                group, held = [], 0.0
        if group:
            yield from self._recognise(group, spoken)

    def language(self, language: str) -> _Language:
        """The graph, words and rules of a language, read once."""
        load_script(language)
        if language not in self._speakers:
            self._speakers[language] = _Language.read(self, language)
        return self._speakers[language]

    def close(self) -> None:
        """End the search processes that an engine may have started."""
        for spoken in self._speakers.values():
            spoken.engine.close()

    def _read(self, source: Audio, number: int) -> _Item:
        from uyir.asr.audio import read_audio

        begin = time.perf_counter()
        name = str(source) if isinstance(source, (str, Path)) else f"array {number}"
        try:
            if isinstance(source, (str, Path)):
                samples, _ = read_audio(source)
            else:
                samples = _samples(source, name)
            parts = stretches(samples)
        except UyirError as error:
            return _Item(name, error=str(error))
        item = _Item(name, len(samples) / SAMPLE_RATE)
        # Views keep the whole recording alive, which is meant: it is let go with its group.
        item.parts = [(part, samples[part.begin : part.end]) for part in parts]
        item.seconds = time.perf_counter() - begin
        return item

    def _recognise(self, group: Sequence[_Item], spoken: _Language) -> Iterator[Transcript]:
        begin = time.perf_counter()
        pieces = [(i, part, wave) for i, item in enumerate(group) for part, wave in item.parts]
        # The longest first: a batch holds pieces of like length, and what does not fit shows early.
        pieces.sort(key=lambda piece: -len(piece[2]))
        segments: dict[int, list[Segment]] = {}
        failures: dict[int, str] = {}
        for batch in _batches(pieces, self.batch_size):
            found = self._search([wave for _, _, wave in batch], spoken)
            for (index, part, _), hypotheses in zip(batch, found):
                reason = hypotheses[0].error
                if reason is None:
                    segments.setdefault(index, []).append(spoken.segment(part, hypotheses))
                else:
                    failures[index] = f"{group[index].source}: {reason}"
        audio = sum(item.duration for item in group)
        seconds = time.perf_counter() - begin + sum(item.seconds for item in group)
        for index, item in enumerate(group):
            error = item.error or failures.get(index)
            here = sorted(segments.get(index, []), key=lambda segment: segment.start)
            yield Transcript(
                source=item.source,
                language=spoken.name,
                segments=tuple(s for s in here if s.words) if error is None else (),
                duration=round(item.duration, 4),
                engine=self.engine,
                model=self.folder.name,
                rtf=seconds / audio if audio else 0.0,
                final=error is None and all(segment.final for segment in here),
                error=error,
            )

    def _search(self, waves: Sequence[Samples], spoken: _Language) -> list[list[Hypothesis]]:
        log_probs, lengths = self.log_probs(waves, spoken.name)
        return spoken.engine.decode(log_probs, lengths)

    def log_probs(
        self, waves: Sequence[Samples], language: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's output (N, T, C) and its lengths (N) for samples (S,) at 16 kHz each.

        A GPU that runs out of memory is asked again with half the batch.
        """
        import torch

        tensors = [torch.from_numpy(np.ascontiguousarray(wave)) for wave in waves]
        try:
            if self.device == "cpu":
                rows = [self._frontend.cpu(wave) for wave in tensors]
                counts = torch.tensor([len(row) for row in rows])
                features = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            else:
                features, counts = self._frontend.batch(tensors, device=self.device)
            log_probs, lengths = self._model.log_probs(features, counts, language)
            return log_probs.float().cpu(), lengths.cpu()
        except torch.cuda.OutOfMemoryError:
            if len(waves) == 1:
                raise ModelError(
                    f"device {self.device!r} has not the memory for "
                    f"{len(waves[0]) / SAMPLE_RATE:.1f} s of audio"
                ) from None
        torch.cuda.empty_cache()
        half = len(waves) // 2
        parts = [self.log_probs(waves[:half], language), self.log_probs(waves[half:], language)]
        longest = max(part.shape[1] for part, _ in parts)
        padded = [
            torch.nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part, _ in parts
        ]
        return torch.cat(padded), torch.cat([lengths for _, lengths in parts])


@dataclass
class _Item:
    """One recording on its way through."""

    source: str
    duration: float = 0.0
    error: Optional[str] = None
    seconds: float = 0.0
    parts: list[tuple[Stretch, Samples]] = field(default_factory=list)


def _samples(source: Any, name: str) -> Samples:
    samples = np.asarray(source)
    if samples.ndim != 1:
        raise AudioError(f"{name}: samples have shape {samples.shape}, want (S,): one channel")
    if samples.dtype.kind in "iu":
        raise AudioError(f"{name}: samples are {samples.dtype}, want floats in ±1")
    if not len(samples):
        raise AudioError(f"{name}: no samples in it")
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        first = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise AudioError(f"{name}: sample {first} is not a finite number")
    return samples


_Piece = tuple[int, Stretch, Samples]


def _batches(pieces: Sequence[_Piece], batch_size: int) -> Iterator[list[_Piece]]:
    """Runs of pieces, which come longest first, within `batch_size` and `BATCH_S`."""
    batch: list[_Piece] = []
    for piece in pieces:
        longest = len(batch[0][2]) if batch else len(piece[2])
        seconds = (len(batch) + 1) * longest / SAMPLE_RATE
        if batch and (len(batch) == batch_size or seconds > BATCH_S):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


class _Language:
    """What turns hypotheses of one language into words."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        words: Sequence[str],
        tokens: Mapping[str, int],
        frame_s: float,
        vocabulary: Optional[frozenset[str]],
        analyses: Optional[Analyses],
    ) -> None:
        self.name = name
        self.engine = engine
        self._words = words
        self._tokens = tokens
        self._frame_s = frame_s
        self._vocabulary = vocabulary
        self._subwords = analyses
        self._pronunciations: dict[str, list[tuple[int, ...]]] = {}
        self._analyses: dict[tuple[str, ...], tuple[tuple[str, str], ...]] = {}

    @classmethod
    def read(cls, recogniser: Recogniser, language: str) -> _Language:
        from uyir.decode.graph import Graph
        from uyir.lexicon.symbols import Symbols

        folder = recogniser.graphs / language
        if language not in recogniser._model.config.languages or not folder.is_dir():
            there = ", ".join(recogniser.languages) or "none"
            raise ModelError(f"{recogniser.folder}: no {language!r} in this model; it has {there}")
        for name in ("words.txt", "HLG.safetensors", "meta.json"):
            if not (folder / name).is_file():
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
        options = recogniser.options
        if recogniser.tuned and "acoustic_scale" in meta:
            options = replace(options, acoustic_scale=meta["acoustic_scale"])
        engine = create(recogniser.engine, graph, options, device=recogniser.device)
        frontend = recogniser._model.config.frontend
        return cls(
            language,
            engine,
            list(words),
            {token: i for i, token in enumerate(recogniser._tokens)},
            # The network's subsampling: four feature frames become one.
            4 * frontend.frame_shift / frontend.sample_rate,
            read_vocabulary(folder),
            read_subwords(folder),
        )

    def segment(self, part: Stretch, hypotheses: Sequence[Hypothesis]) -> Segment:
        """The best hypothesis as words with times, the others as texts."""
        best = hypotheses[0]
        begin, end = part.begin / SAMPLE_RATE, part.end / SAMPLE_RATE
        words = self._spoken(best, begin, end)
        alternatives = tuple(
            Alternative(
                " ".join(self._join([h.subwords[p] for p in group]) for group in self._grouped(h)),
                round(h.score, 3),
            )
            for h in hypotheses
        )
        return Segment(
            start=words[0].start if words else round(begin, 3),
            end=words[-1].end if words else round(end, 3),
            text=" ".join(word.word for word in words),
            words=words,
            confidence=_mean(word.confidence for word in words),
            final=best.final,
            alternatives=alternatives if len(alternatives) > 1 else (),
        )

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
        marked = [self._words[number] for number in numbers]
        try:
            return join(marked, self.name)
        except ScriptError:  # an orphan that no letter can begin with; nothing heard is lost
            return "".join(map(bare, marked))

    def _spoken(self, best: Hypothesis, begin: float, end: float) -> tuple[SpokenWord, ...]:
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
                    round(_mean(best.confidences[p] for p in group), 3),
                    None if self._vocabulary is None else text not in self._vocabulary,
                    subwords,
                )
            )
        return tuple(out)

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


def _mean(values: Iterable[float]) -> float:
    """Geometric mean, rounded as confidences are written; 0 for none."""
    several = list(values)
    if not several or min(several) <= 0.0:
        return 0.0
    return round(math.exp(sum(map(math.log, several)) / len(several)), 3)
