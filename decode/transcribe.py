"""From recordings to words: the whole way, for any number of recordings.

>>> recogniser = load()                                                      # doctest: +SKIP
>>> [t.text for t in recogniser.transcribe(["a.wav"], language="ta")]         # doctest: +SKIP
['...']

`Recogniser` holds a model and says what is in a batch; `uyir.decode.pipeline` brings recordings to it.
What is wrong with one recording is said in its `Transcript.error`; the others are done all the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol, Union

import numpy as np

import uyir
from uyir.asr.audio import SAMPLE_RATE
from uyir.decode.added import word_folder
from uyir.decode.batches import GPU_GROUP_S, GROUP_S
from uyir.decode.calibration import read_calibration, read_identification, read_scales
from uyir.decode.engines import SearchOptions, choose
from uyir.decode.evidence import spoken_evidence
from uyir.decode.inputs import Input
from uyir.decode.lanes import make_lanes, settle
from uyir.decode.pauses import Samples, Stretch
from uyir.decode.pipeline import AUTO, Parts, Pipeline, Plan, in_order, moved
from uyir.decode.processes import can_fork
from uyir.decode.reading import How, Readers
from uyir.decode.sources import Audio, Source, sources_of
from uyir.decode.spoken import SpokenLanguage
from uyir.decode.transcript import Transcript
from uyir.decode.vad import resolve
from uyir.decode.work import Found, Heard, Lane, Task
from uyir.errors import ModelError
from uyir.grammar.script import NORMALISER_VERSION, load_script

if TYPE_CHECKING:
    import torch
    from typing_extensions import TypeGuard

    from uyir.asr.checkpoint import LoadedModel
    from uyir.decode.hypothesis import Hypothesis

MODELS = Path(uyir.__file__).parent / "models"
DEFAULT_MODEL = "base"
#: A batch holds at most this many seconds, padding included, on a CPU and on a GPU.
BATCH_S = 60.0
GPU_BATCH_S = 1200.0
#: … and so many parts of recordings.
BATCH_SIZE, GPU_BATCH_SIZE = 64, 512
PRECISIONS = ("auto", "float32", "bfloat16")
#: Readings of a segment that are searched for at least: with a rival there is a lattice, whose posteriors
#: confidences are made of.
RIVALS = 2
#: Natural logarithms that a hotword gains.
HOTWORD_GAIN = 6.0


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
    """Where a model's graphs are: its own folder, or the one beside it, or else the bundled model, that
    ``config.json`` names under ``graphs`` (models of one token table share their graphs). Raises
    `ModelError`."""
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
    for place in (folder.parent, MODELS):
        if (place / name).is_dir():
            return place / name
    raise ModelError(
        f"{path}: its graphs are those of {name!r}, which is not beside it, nor bundled"
    )


def load(
    model: Optional[Union[str, Path]] = None,
    *,
    engine: Optional[str] = None,
    device: str = "cpu",
    options: Optional[SearchOptions] = None,
    batch_size: Optional[int] = None,
    tuned: bool = True,
    workers: int = 1,
    vad: str = "auto",
    precision: str = "auto",
    confidence: bool = True,
    hotwords: Optional[Union[str, Path]] = None,
    hotword_gain: float = HOTWORD_GAIN,
    rescore: Optional[Union[str, Path]] = None,
    rescore_scale: float = 1.0,
    cluster: Optional[str] = None,
    bounded: bool = True,
) -> Recogniser:
    """A recogniser from a model folder or the name of a bundled model.

    ``device``: ``cpu``, ``cuda``, ``cuda:1``; several with commas work side by side. ``workers``:
    processes on a CPU, a core each (with 1 this process does it all). ``batch_size``: at most so many
    parts of recordings at once. ``vad``: how speech is found in recordings of more than 20 s, see
    `uyir.decode.vad`. ``precision``: ``bfloat16``, ``float32``, or ``auto``, which is bfloat16 on
    GPUs that have it. ``tuned``: take the acoustic scale that the model's ``config.json`` gives for the language, or
    the graph's ``meta.json`` (``acoustic_scale``, found on development speech), instead of the one in ``options``, where it gives
    one. ``confidence``: search for rivals of the best reading too, by which confidences are measured;
    without, the search is faster and confidences say only how surely sounds were heard. ``hotwords``: a
    file of roots, one a line, that become likelier in all their inflections, by ``hotword_gain``
    (natural logarithm) each. ``rescore``: a packed language model (`uyir lm pack`), or a
    folder of them by language, whose scores replace those of the graph's own model on what the search kept
    (``rescore_scale`` of the difference); by default the ``LM.safetensors`` of a language's folder, where there
    is one; the empty string for none. ``cluster``: ``ray`` spreads batches over a Ray cluster, see
    `uyir.decode.cluster`; ``bounded``: over at most ``workers`` of its cores or GPUs.

    Raises `ModelError` for a folder that lacks a file or has a damaged one, `EngineError` for an
    engine that cannot run here. Graphs are read when their language is first asked for.
    """
    if batch_size is None:
        batch_size = GPU_BATCH_SIZE if device.startswith("cuda") else BATCH_SIZE
    if batch_size < 1:
        raise ModelError(f"batch_size is {batch_size}, want at least 1")
    if workers < 1:
        raise ModelError(f"{workers} workers, want at least 1")
    if cluster not in (None, "ray"):
        raise ModelError(f"no cluster {cluster!r}, want ray")
    if precision not in PRECISIONS:
        raise ModelError(f"no precision {precision!r}, want {', '.join(PRECISIONS)}")
    devices = _devices(device)
    folder = find_model(model)
    settings: dict[str, Any] = {
        "engine": engine if engine is not None else choose(devices[0]),
        "options": options if options is not None else SearchOptions(),
        "batch_size": batch_size,
        "tuned": tuned,
        "vad": resolve(vad),
        "precision": precision,
        "confidence": confidence,
        "hotwords": None if hotwords is None else Path(hotwords),
        "hotword_gain": hotword_gain,
        "rescore": rescore,
        "rescore_scale": rescore_scale,
        "cluster": cluster,
        "bounded": bounded,
    }
    return Recogniser(folder, devices, workers=workers, **settings)


def _devices(device: str) -> tuple[str, ...]:
    """The devices that a list with commas names; ``cuda:all`` is every GPU."""
    if device == "cuda:all":
        import torch

        count = torch.cuda.device_count()
        if not count:
            raise ModelError("device 'cuda:all' cannot be used: torch sees no GPU")
        return tuple(f"cuda:{n}" for n in range(count))
    names = tuple(name.strip() for name in device.split(",") if name.strip())
    if not names or not all(re.fullmatch(r"cpu|cuda(:\d+)?|mps|xpu(:\d+)?", n) for n in names):
        raise ModelError(f"device {device!r} cannot be used: want cpu, cuda, cuda:1 …")
    return names


def _load_model(folder: Path, device: str) -> LoadedModel:
    from uyir.asr.checkpoint import load_model

    try:
        return load_model(folder, device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise ModelError(f"device {device!r} cannot be used: {reason}") from None


@dataclass(frozen=True)
class Stacked:
    """Samples of a batch in one tensor (N, S), zero past each one's length (N)."""

    samples: torch.Tensor
    lengths: torch.Tensor

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, rows: slice) -> Stacked:
        lengths = self.lengths[rows]
        return Stacked(self.samples[rows, : int(lengths.max())], lengths)

    @property
    def longest(self) -> int:
        return int(self.samples.shape[1])


Waves = Union[Sequence[Samples], Stacked]


def stack(waves: Sequence[Samples], *, pinned: bool) -> Stacked:
    """Samples (S,) each in one tensor, in page-locked memory where ``pinned``."""
    import torch

    lengths = torch.tensor([len(wave) for wave in waves])
    samples = torch.empty((len(waves), int(lengths.max())), pin_memory=pinned)
    rows = samples.numpy()
    for row, wave in zip(rows, waves):
        row[: len(wave)] = wave
        row[len(wave) :] = 0.0
    return Stacked(samples, lengths)


def _in_stages(engine: Any) -> TypeGuard[Staging]:
    return hasattr(engine, "find")


class Staging(Protocol):
    """An engine whose `decode` is two steps, of which the second needs no GPU and may be done elsewhere."""

    def find(self, log_probs: Any, lengths: Any) -> list[Any]: ...  # pragma: no cover

    def hypotheses(self, raw: Any, most: Optional[int]) -> list[Hypothesis]: ...  # pragma: no cover


class Recogniser:
    """A model with its graphs, ready for recordings. Make one with `load`."""

    def __init__(
        self,
        folder: Path,
        devices: Sequence[str],
        *,
        engine: str,
        options: SearchOptions,
        batch_size: int,
        tuned: bool,
        workers: int = 1,
        vad: str = "energy",
        precision: str = "auto",
        confidence: bool = True,
        hotwords: Optional[Path] = None,
        hotword_gain: float = HOTWORD_GAIN,
        rescore: Optional[Union[str, Path]] = None,
        rescore_scale: float = 1.0,
        cluster: Optional[str] = None,
        bounded: bool = True,
    ) -> None:
        from uyir.asr.features import make_frontend

        # With several devices a process each loads the model: this one only needs to know it.
        loaded = _load_model(folder, devices[0] if len(devices) == 1 else "cpu")
        self.folder = folder
        self.graphs = graph_folder(folder)
        self.devices = tuple(devices)
        self.device = devices[0]
        self.engine = engine
        self.options = options
        self.batch_size = batch_size
        self.tuned = tuned
        self.workers = workers
        self.vad = vad
        self.precision = precision
        self.confidence = confidence
        self.hotwords = hotwords
        self.hotword_gain = hotword_gain
        self.rescore = rescore
        self.rescore_scale = rescore_scale
        self.cluster = cluster
        self.bounded = bounded
        config = _config(folder)
        where = str(folder / "config.json")
        self.calibration = read_calibration(config, where) if confidence else None
        self.identification = read_identification(config, where)
        self.scales = read_scales(config, where)
        self._model = loaded.model
        self._tokens = loaded.tokens
        self._frontend = make_frontend(loaded.model.config.frontend)
        self._spoken: dict[str, SpokenLanguage] = {}
        #: What a batch may hold (samples, with padding) since a device's memory was exceeded.
        self._bearable: Optional[int] = None

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the model folder has a graph for."""
        have = (path.parent.name for path in self.graphs.glob("*/words.txt*"))
        return tuple(sorted(set(have) & set(self._model.config.languages)))

    @property
    def search_options(self) -> SearchOptions:
        """How the graph is searched: with rivals, where confidences are wanted."""
        least = RIVALS if self.confidence else 1
        return replace(self.options, nbest=max(self.options.nbest, least))

    def transcribe(
        self, audio: Union[Audio, Iterable[Union[Audio, Input]]], language: str = AUTO
    ) -> list[Transcript]:
        """Transcripts of recordings, in order; see `stream`. One recording may stand for itself."""
        if isinstance(audio, (str, Path)) or (isinstance(audio, np.ndarray) and audio.ndim == 1):
            return list(self.stream([audio], language))
        return list(self.stream(audio, language))

    def stream(
        self, audio: Iterable[Union[Audio, Input]], language: str = AUTO
    ) -> Iterator[Transcript]:
        """Yield a transcript for each recording, in order, as soon as it is done.

        ``audio``: paths, `Input`s, or arrays (S,) of samples in ±1 at 16 kHz. ``language``: a code,
        or ``auto``, which tells each recording's from how it sounds. Memory is bounded by some
        `GROUP_S` seconds of audio, whatever the length of a recording. Raises `DataError` for an
        unknown language, `ModelError` or `GraphError` if the model cannot serve it; what is wrong with
        one recording goes into its `Transcript.error`.
        """
        pipeline, lanes = self.pipeline(language)
        try:
            for result in in_order(pipeline.run(_in_groups(sources_of(audio), self.group_s))):
                yield result.transcript
        finally:
            for lane in lanes:
                lane.close()

    def pipeline(
        self, language: str = AUTO, *, hashing: bool = False
    ) -> tuple[Pipeline, list[Lane]]:
        """A pipeline for one run, and its lanes, which the caller closes. Raises as `stream`."""
        several = self.languages if language == AUTO else (language,)
        if not several:
            raise ModelError(f"{self.folder}: no graph of any language in this model")
        for name in several:
            self.language(name)
        plan = Plan(
            language=language,
            languages=several,
            vad=self.vad,
            batch_size=self.batch_size,
            batch_s=BATCH_S if self._on_cpu else GPU_BATCH_S,
            group_s=self.group_s,
            identification=self.identification,
        )
        how = How(self.vad, hashing)
        readers = Readers(how)
        if not self._on_cpu and self.workers > 1 and can_fork():
            settle()
            readers = Readers.forked(how, self.readers)
        lanes = make_lanes(self, several)
        return Pipeline(lanes, plan, self.transcript, readers=readers), lanes

    @property
    def _on_cpu(self) -> bool:
        return self.device.startswith("cpu")

    @property
    def group_s(self) -> float:
        """Of how much audio (s) are the groups that batches are formed from."""
        return GROUP_S if self._on_cpu else GPU_GROUP_S

    # With a GPU, the cores that may be used are shared out between those who read recordings, make words and
    # write files. Measured: a second of audio costs them about as 7, 4 and 2.

    @property
    def readers(self) -> int:
        """With a GPU: how many processes read recordings."""
        return max(1, self.workers // 2)

    @property
    def scribes(self) -> int:
        """How many processes write files; none where this one does."""
        if self._on_cpu or self.workers < 4 or not can_fork():
            return 0
        return max(1, self.workers // 6)

    @property
    def assemblers(self) -> int:
        """With a GPU: how many processes make words."""
        return max(1, self.workers - self.readers - self.scribes)

    def maker(self, device: str) -> Callable[[], Recogniser]:
        """Makes this recogniser again in another process, on a device."""
        return functools.partial(
            Recogniser,
            self.folder,
            (device,),
            engine=self.engine,
            options=self.options,
            batch_size=self.batch_size,
            tuned=self.tuned,
            vad=self.vad,
            precision=self.precision,
            confidence=self.confidence,
            hotwords=self.hotwords,
            hotword_gain=self.hotword_gain,
            rescore=self.rescore,
            rescore_scale=self.rescore_scale,
        )

    def language(self, language: str) -> SpokenLanguage:
        """The graph, words and rules of a language, read once."""
        load_script(language)
        if language not in self._spoken:
            self._spoken[language] = SpokenLanguage.read(self, language)
        return self._spoken[language]

    def close(self) -> None:
        """End the search processes that an engine may have started."""
        for spoken in self._spoken.values():
            spoken.engine.close()

    def fingerprint(self) -> str:
        """SHA-256 of what decides about the words besides the audio: model, graphs, options, versions."""
        digest = hashlib.sha256()
        files = sorted(
            path
            for folder in {self.folder, self.graphs}
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".md"
        )
        for path in files:
            digest.update(path.name.encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        settings = {
            "version": uyir.__version__,
            "normaliser": NORMALISER_VERSION,
            "engine": self.engine,
            "options": repr(replace(self.options, threads=1)),
            "tuned": self.tuned,
            "vad": self.vad,
            "batch_size": self.batch_size,
            "confidence": self.confidence,
            "precision": self.precision,
            "hotword_gain": self.hotword_gain,
            "rescore": self.rescore != "",
            "rescore_scale": self.rescore_scale,
        }
        asked = [*sorted(word_folder(self.folder.name).glob("*.tsv")), self.hotwords]
        if self.rescore:
            asked += [Path(self.rescore), *sorted(Path(self.rescore).glob("*/LM.safetensors"))]
        for path in (one for one in asked if one is not None):
            if path.is_file():
                digest.update(path.read_bytes())
        digest.update(json.dumps(settings, sort_keys=True).encode())
        return digest.hexdigest()

    def recognise(self, task: Task) -> list[Found]:
        """What is in each piece of a batch."""
        log_probs, lengths = self.log_probs([p.samples for p in task.pieces], task.language)
        heard = self.search(task.language, log_probs, lengths)
        return self.assemble(task.language, [piece.stretch for piece in task.pieces], heard)

    def search(self, language: str, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[Heard]:
        """What the graph of a language makes of log_probs (N, T, C) and lengths (N)."""
        engine = self.language(language).engine
        if _in_stages(engine):
            return [Heard(raw, raw.log_probs) for raw in engine.find(log_probs, lengths)]
        log_probs = log_probs.cpu()
        return [
            Heard(hypotheses, row[:length].numpy())
            for hypotheses, row, length in zip(
                engine.decode(log_probs, lengths), log_probs, lengths.tolist()
            )
        ]

    def assemble(
        self, language: str, stretches: Sequence[Stretch], heard: Sequence[Heard]
    ) -> list[Found]:
        """The words of what was found at each stretch; needs no GPU."""
        spoken = self.language(language)
        staging = spoken.engine if _in_stages(spoken.engine) else None
        out = []
        for stretch, one in zip(stretches, heard):
            hypotheses = one.found
            if staging is not None:
                hypotheses = staging.hypotheses(one.found, self.options.nbest)
            best = hypotheses[0]
            if best.error is not None:
                out.append(Found(None, error=best.error))
                continue
            segment = spoken.segment(stretch, hypotheses, one.log_probs, self.options.nbest)
            out.append(Found(segment, spoken_evidence(best, one.log_probs)))
        return out

    def log_probs(
        self, waves: Sequence[Samples], language: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's output (N, T, C), on its device, and its lengths (N), for samples (S,) at 16 kHz.

        Where memory does not suffice the batch is done in halves, and batches as large as that from then on.
        """
        return self.bearable(self.stacked(waves), language)

    def stacked(self, waves: Sequence[Samples]) -> Waves:
        """Samples side by side in memory that a GPU copies fast; on a CPU as they are."""
        return waves if self._on_cpu else stack(waves, pinned=True)

    def bearable(self, waves: Waves, language: str) -> tuple[torch.Tensor, torch.Tensor]:
        """See `log_probs`; ``waves``: as `stacked` gives them."""
        import torch

        longest = waves.longest if isinstance(waves, Stacked) else max(map(len, waves))
        too_much = self._bearable is not None and len(waves) * longest > self._bearable
        if not too_much or len(waves) == 1:
            try:
                return self._forward(waves, language)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if len(waves) == 1:
                    raise ModelError(
                        f"device {self.device!r} has not the memory for "
                        f"{longest / SAMPLE_RATE:.1f} s of audio"
                    ) from None
                self._bearable = len(waves) * longest // 2
            if self.device != "cpu":
                torch.cuda.empty_cache()
        half = len(waves) // 2
        parts = [self.bearable(waves[:half], language), self.bearable(waves[half:], language)]
        frames = max(part.shape[1] for part, _ in parts)
        padded = [
            torch.nn.functional.pad(part, (0, 0, 0, frames - part.shape[1])) for part, _ in parts
        ]
        return torch.cat(padded), torch.cat([lengths for _, lengths in parts])

    def _forward(self, waves: Waves, language: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network(*self.features(waves), language)

    def features(self, waves: Waves) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (N, T, F) on the network's device, and their lengths (N), of what `stacked` gives."""
        import torch

        if isinstance(waves, Stacked):
            samples = waves.samples.to(self.device, non_blocking=True)
            return self._frontend.batch(samples, waves.lengths)
        # An array that cannot be written to is one in memory shared with a reader.
        rows = [
            self._frontend.cpu(torch.from_numpy(np.require(wave, requirements=["C", "W"])))
            for wave in waves
        ]
        counts = torch.tensor([len(row) for row in rows])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), counts

    def network(
        self, features: torch.Tensor, counts: torch.Tensor, language: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The forward pass alone: features (N, T, F), lengths (N) -> log_probs (N, T', C), lengths (N)."""
        import torch

        kind = self.device.partition(":")[0]
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self._half()):
            log_probs, lengths = self._model.log_probs(features, counts, language)
        return log_probs.float(), lengths.cpu()

    def _half(self) -> bool:
        """Whether the network runs in bfloat16."""
        import torch

        if self.precision == "auto":
            return self.device.startswith("cuda") and torch.cuda.is_bf16_supported()
        return self.precision == "bfloat16"

    def transcript(self, source: Source, parts: Parts) -> Transcript:
        """The transcript of a recording that is recognised."""
        return Transcript(
            source=str(source.entry.path) if source.entry is not None else source.name,
            language=parts.language,
            segments=tuple(moved(segment.open(), source.start) for segment in parts.segments),
            duration=round(parts.duration, 4),
            engine=self.engine,
            model=self.folder.name,
            rtf=parts.rtf,
            final=parts.final,
            error=parts.error,
            id=source.id,
        )


def _out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}") from None
    return values if isinstance(values, dict) else {}


def _in_groups(sources: Iterable[Source], group_s: float) -> Iterator[list[tuple[int, Source]]]:
    """Sources with their numbers in groups of at least so much audio (s), as they come."""
    group: list[tuple[int, Source]] = []
    held = 0.0
    for number, source in enumerate(sources):
        group.append((number, source))
        held += source.duration()
        if held >= group_s:
            yield group
            group, held = [], 0.0
    if group:
        yield group
