"""Training data: manifests, audio in shards or files, duration-bucketed batches, a threaded loader.

A manifest is a TSV of `MANIFEST_COLUMNS`, paths relative to its folder; ``phones`` are token names
divided by spaces. ``audio`` is a recording, or a stretch of a shard: ``part-00001.i16@1600+32000``
is 32,000 samples from sample 1,600 on of a file of raw little-endian 16-bit samples at 16 kHz. Shards
are memory-mapped, so a few large ones keep hundreds of hours in the page cache. Lhotse cut sets
(``.jsonl``, ``.jsonl.gz``) are read where lhotse is installed.
"""

from __future__ import annotations

import random
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt
import torch

from uyir.asr.audio import SAMPLE_RATE, read_audio
from uyir.errors import AudioError, DataError
from uyir.grammar.lists import read_table
from uyir.lexicon.symbols import WORD_END

MANIFEST_COLUMNS = ("id", "audio", "duration", "language", "text", "phones")

_STRETCH = re.compile(r"(.+)@(\d+)\+(\d+)")

Int16 = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest: where its samples are and the token ids that were spoken."""

    id: str
    path: Path
    start: int  # samples at 16 kHz
    samples: Optional[int]  # None: to the end of the file
    duration: float  # seconds
    language: str
    text: str
    tokens: tuple[int, ...]

    @property
    def ctc_frames(self) -> int:
        """Output frames that CTC needs: one a token, and a blank between equal neighbours."""
        return len(self.tokens) + sum(a == b for a, b in zip(self.tokens, self.tokens[1:]))


def read_manifest(path: Union[str, Path], tokens: Sequence[str]) -> list[Utterance]:
    """Read a manifest, or a Lhotse cut set; `tokens` are all token names, blank first.

    Raises `DataError` naming file and line for a duration that is no positive number, a phone
    that is no token, an utterance without phones, or an id that stands twice.
    """
    path = Path(path)
    ids = {name: number for number, name in enumerate(tokens)}
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _read_cuts(path, ids)
    utterances: list[Utterance] = []
    seen: set[str] = set()
    for row in read_table(path, MANIFEST_COLUMNS):
        try:
            duration = float(row["duration"])
        except ValueError:
            duration = -1.0
        if not 0 < duration < 1e6:
            raise row.error(f"duration {row['duration']!r}, want seconds")
        if row["id"] in seen:
            raise row.error(f"id {row['id']!r} stands twice")
        seen.add(row["id"])
        phones = row["phones"].split()
        if not phones:
            raise row.error(f"{row['id']!r} has no phones")
        phones = _with_word_ends(phones, row["text"], row["language"], ids)
        unknown = [phone for phone in phones if phone not in ids]
        if unknown:
            raise row.error(f"{unknown[0]!r} is no token")
        stretch = _STRETCH.fullmatch(row["audio"])
        audio, start, samples = (
            (stretch[1], int(stretch[2]), int(stretch[3])) if stretch else (row["audio"], 0, None)
        )
        utterances.append(
            Utterance(
                row["id"],
                path.parent / audio,
                start,
                samples,
                duration,
                row["language"],
                row["text"],
                tuple(ids[phone] for phone in phones),
            )
        )
    return utterances


def _with_word_ends(
    phones: list[str], text: str, language: str, ids: Mapping[str, int]
) -> list[str]:
    """The phones with ``|`` after each word where the token table has it, and without where it has not."""
    if WORD_END not in ids:
        return [phone for phone in phones if phone != WORD_END]
    if WORD_END in phones:
        return phones
    from uyir.asr.prepare import with_word_ends

    return with_word_ends(phones, text, language)


def _read_cuts(path: Path, ids: Mapping[str, int]) -> list[Utterance]:
    """Cuts with one supervision each, phones in ``supervision.custom['phones']``."""
    try:
        from lhotse import CutSet
    except ImportError:
        raise DataError("a Lhotse cut set, but lhotse is not installed", path) from None
    utterances = []
    for cut in CutSet.from_file(path):
        supervision = cut.supervisions[0] if len(cut.supervisions) == 1 else None
        phones = str(((supervision and supervision.custom) or {}).get("phones", "")).split()
        if supervision is None or not phones:
            raise DataError(f"cut {cut.id}: want one supervision, with custom 'phones'", path)
        phones = _with_word_ends(phones, supervision.text or "", supervision.language or "", ids)
        unknown = [phone for phone in phones if phone not in ids]
        if unknown:
            raise DataError(f"cut {cut.id}: {unknown[0]!r} is no token", path)
        source = Path(cut.recording.sources[0].source)
        utterances.append(
            Utterance(
                cut.id,
                source if source.is_absolute() else path.parent / source,
                round(cut.start * SAMPLE_RATE),
                round(cut.duration * SAMPLE_RATE),
                float(cut.duration),
                supervision.language or "",
                supervision.text or "",
                tuple(ids[phone] for phone in phones),
            )
        )
    return utterances


class SampleReader:
    """Reads utterances as 16-bit samples; shards stay memory-mapped. Safe in several threads."""

    def __init__(self) -> None:
        self._shards: dict[Path, Int16] = {}
        self._lock = threading.Lock()

    def read(self, utterance: Utterance) -> Int16:
        """The samples ``(S,)``; raises `AudioError` if they are not there."""
        if utterance.path.suffix == ".i16":
            samples: Int16 = self._shard(utterance.path)
        else:
            floats, _ = read_audio(utterance.path)
            samples = np.clip(floats * 32768.0, -32768, 32767).astype(np.int16)
        length = len(samples) - utterance.start
        wanted = length if utterance.samples is None else utterance.samples
        # A cut's rounded end may lie one sample past the recording's.
        if wanted > length + 1 or length <= 0:
            raise AudioError(
                f"{utterance.path}: {utterance.id} wants samples {utterance.start} to "
                f"{utterance.start + wanted}, there are {len(samples)}"
            )
        return samples[utterance.start : utterance.start + wanted]

    def _shard(self, path: Path) -> Int16:
        with self._lock:
            if path not in self._shards:
                try:
                    # A plain view: slicing a memmap object costs ten times as much.
                    self._shards[path] = np.asarray(np.memmap(path, dtype="<i2", mode="r"))
                except (OSError, ValueError) as error:
                    raise AudioError(f"{path}: {error}") from None
            return self._shards[path]


@dataclass(frozen=True)
class LeftOut:
    """Utterances that training leaves out, by reason; each list holds ids."""

    too_long: list[str] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)
    more_tokens_than_frames: list[str] = field(default_factory=list)
    unknown_language: list[str] = field(default_factory=list)

    def summary(self) -> str:
        return ", ".join(
            f"{len(ids)} {name.replace('_', ' ')}" for name, ids in vars(self).items() if ids
        )


def select(
    utterances: Sequence[Utterance],
    languages: Sequence[str],
    min_seconds: float,
    max_seconds: float,
    fastest: float = 1.0,
) -> tuple[list[Utterance], LeftOut]:
    """The utterances that can be trained on, at up to `fastest` times their speed."""
    kept: list[Utterance] = []
    left = LeftOut()
    for utterance in utterances:
        frames = int(utterance.duration / fastest * 25)
        if utterance.language not in languages:
            left.unknown_language.append(utterance.id)
        elif utterance.duration > max_seconds:
            left.too_long.append(utterance.id)
        elif utterance.duration < min_seconds:
            left.too_short.append(utterance.id)
        elif frames < utterance.ctc_frames:
            left.more_tokens_than_frames.append(utterance.id)
        else:
            kept.append(utterance)
    return kept, left


class Mixture:
    """Sources of utterances, each taken a whole number of times an epoch or for a share of its audio.

    `utterances` are those of all sources, once each; `epoch` says which rows of them an epoch takes.
    """

    def __init__(self) -> None:
        self.utterances: list[Utterance] = []
        self._sources: list[tuple[range, int, Optional[float]]] = []

    def add(
        self, utterances: Sequence[Utterance], repeat: int = 1, share: Optional[float] = None
    ) -> None:
        """Take these `repeat` times an epoch, or, with `share`, for that part of its seconds."""
        start = len(self.utterances)
        self.utterances += utterances
        self._sources.append((range(start, len(self.utterances)), repeat, share))

    def _copies(self) -> list[float]:
        """How often an epoch takes each source; the ones with a share are measured by the others."""
        seconds = [sum(self.utterances[i].duration for i in rows) for rows, _, _ in self._sources]
        plain = sum(
            length * repeat
            for length, (_, repeat, share) in zip(seconds, self._sources)
            if share is None
        )
        shared = sum(share or 0.0 for _, _, share in self._sources)
        # Without a source that is taken as it is, an epoch is as long as all of them once.
        total = plain / (1 - shared) if plain else sum(seconds)
        return [
            float(repeat) if share is None else share * total / max(length, 1e-9)
            for length, (_, repeat, share) in zip(seconds, self._sources)
        ]

    def epoch(self, seed: int) -> list[int]:
        """Row numbers of an epoch; which rows are taken once more than others is drawn from `seed`."""
        taken: list[int] = []
        for number, ((rows, _, _), copies) in enumerate(zip(self._sources, self._copies())):
            whole = int(copies)
            taken += list(rows) * whole
            rest = round((copies - whole) * len(rows))
            taken += random.Random(f"{seed}/{number}").sample(rows, rest)
        return taken


def bucketed_batches(
    utterances: Sequence[Utterance],
    batch_seconds: float,
    seed: int,
    rows: Optional[Sequence[int]] = None,
    pad_seconds: float = 0.0,
) -> list[list[int]]:
    """Row numbers in batches of like durations, each at most `batch_seconds` with its padding.

    `rows` are the utterances to take, one as often as it stands there; by default all of them once.
    Durations are jittered by 5 % so that neighbours change with the seed; batches are shuffled. An
    utterance longer than `batch_seconds` is a batch by itself. Each utterance counts as up to
    `pad_seconds` of silence longer at both its ends.
    """
    rng = random.Random(seed)
    rows = range(len(utterances)) if rows is None else rows
    keyed = [(utterances[row].duration * rng.uniform(0.95, 1.05), row) for row in rows]
    batches: list[list[int]] = []
    batch: list[int] = []
    longest = 0.0
    for _, row in sorted(keyed, key=lambda pair: pair[0]):
        seconds = utterances[row].duration + 2 * pad_seconds
        longest = max(longest, seconds)
        if batch and longest * (len(batch) + 1) > batch_seconds:
            batches.append(batch)
            batch, longest = [], seconds
        batch.append(row)
    if batch:
        batches.append(batch)
    rng.shuffle(batches)
    return batches


@dataclass(frozen=True)
class Batch:
    """16-bit samples ``(N, S)`` with their lengths, language rows ``(N,)``, targets ``(N, U)``.

    `number` is the batch's place in the list that it was loaded from.
    """

    number: int
    ids: list[str]
    samples: torch.Tensor
    lengths: torch.Tensor
    language: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        move = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return Batch(self.number, self.ids, **move)


class Loader:
    """Builds batches in threads, some ahead of their use.

    Unreadable utterances are left out of their batch and recorded in `unreadable`: id -> reason.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        languages: Sequence[str],
        pad_seconds: float = 0.0,
        workers: int = 4,
        pin: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """`share` is a process's number and how many there are: each builds its rows of a batch."""
        self.share = share
        self.utterances = utterances
        self.languages = list(languages)
        self.pad_samples = round(pad_seconds * SAMPLE_RATE)
        self.workers = workers
        self.pin = pin
        self.unreadable: dict[str, str] = {}
        self._reader = SampleReader()

    def load(self, batches: Sequence[Sequence[int]], seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches from number `start` on, in order; the same for the same seed.

        A batch of which nothing can be read is left out.
        """
        for batch in self.load_all(batches, seed, start):
            if batch is not None:
                yield batch

    def load_all(
        self, batches: Sequence[Sequence[int]], seed: int, start: int = 0
    ) -> Iterator[Optional[Batch]]:
        """As `load`, but with None for a batch of which nothing can be read."""
        with ThreadPoolExecutor(max_workers=self.workers) as pool:
            pending: deque[Future[Optional[Batch]]] = deque()
            numbers = iter(range(start, len(batches)))
            try:
                while True:
                    while len(pending) < 2 * self.workers:
                        number = next(numbers, None)
                        if number is None:
                            break
                        pending.append(pool.submit(self._build, batches[number], seed, number))
                    if not pending:
                        return
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _build(self, rows: Sequence[int], seed: int, number: int) -> Optional[Batch]:
        rng = random.Random(f"{seed}/{number}")
        rank, world = self.share
        # Too few rows to share out: every process takes all, which weighs them alike.
        rows = rows[rank::world] if len(rows) >= world else rows
        read: list[tuple[Utterance, Int16, int, int]] = []
        for row in rows:
            utterance = self.utterances[row]
            before, after = rng.randint(0, self.pad_samples), rng.randint(0, self.pad_samples)
            try:
                read.append((utterance, self._reader.read(utterance), before, after))
            except AudioError as error:
                self.unreadable[utterance.id] = str(error)
        if not read:
            return None
        lengths = [len(samples) + before + after for _, samples, before, after in read]
        waves = np.zeros((len(read), max(lengths)), dtype=np.int16)
        for wave, (_, samples, before, _) in zip(waves, read):
            wave[before : before + len(samples)] = samples
        targets = np.zeros((len(read), max(len(u.tokens) for u, *_ in read)), dtype=np.int64)
        for target, (utterance, *_) in zip(targets, read):
            target[: len(utterance.tokens)] = utterance.tokens
        tensors: dict[str, Any] = {
            "samples": torch.from_numpy(waves),
            "lengths": torch.tensor(lengths),
            "language": torch.tensor([self.languages.index(u.language) for u, *_ in read]),
            "targets": torch.from_numpy(targets),
            "target_lengths": torch.tensor([len(u.tokens) for u, *_ in read]),
        }
        if self.pin:
            tensors = {name: value.pin_memory() for name, value in tensors.items()}
        return Batch(number, [u.id for u, *_ in read], **tensors)
