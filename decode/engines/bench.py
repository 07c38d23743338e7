"""`uyir bench search`: engines × beams × batch sizes on one graph and the same log_probs.

With ``--json`` a line a measurement; its keys are the fields of `Measurement`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import click
import numpy as np
import numpy.typing as npt

from uyir.decode.engines import NAMES, SearchOptions, create, why_not
from uyir.errors import EngineError, UyirError

Array = npt.NDArray[Any]
#: Seconds that one row of log_probs stands for in the bundled model.
FRAME_S = 0.04
#: Seconds that a GPU works before it is timed: an idle one's clock is slow.
_WARM_S = 1.0
#: Bytes of an emitting arc or an epsilon as the `cuda` engine packs them.
ARC_BYTES = 8


@dataclass(frozen=True)
class Measurement:
    """One engine at one setting.

    ``search_frames_per_s``: paths in host memory, no `Hypothesis` made (None where an engine does not part
    the two); ``frames_per_s``: hypotheses made, too. ``times_real_time`` goes with the former where there is one.
    ``peak_mb``: GPU memory beyond graph and log_probs; riva's holds its graph, too. ``active``, ``arcs``: mean active states and arcs visited a
    frame. ``behind``: mean best-path score lost against the widest search measured, ``worse``: share of
    utterances that lost more than 1e-3, ``unfinished``: of those without a final state (riva does not tell: of those
    that score above all other engines). ``floor_frames_per_s``:
    copy bandwidth ÷ (arcs a frame of the reference × `ARC_BYTES`).
    """

    engine: str
    beam: float
    max_active: int
    nbest: int
    batch: int
    frames: int
    frames_per_s: float
    search_frames_per_s: Optional[float]
    times_real_time: float
    peak_mb: Optional[float]
    active: Optional[float]
    arcs: Optional[float]
    behind: Optional[float]
    worse: Optional[float]
    unfinished: float
    floor_frames_per_s: Optional[float] = None


def synthetic(graph: Any, count: int, noise: float, seed: int, frames: int = 98) -> list[Array]:
    """log_probs (T, C) of random ways through a graph: about ``frames`` frames each, the spoken token
    10 - ``noise`` above others that vary by ``noise``; most frames between tokens are blank."""
    rng = np.random.default_rng(seed)
    arcs = graph.lexical
    offsets = arcs.offsets
    out = []
    for _ in range(count):
        state = arcs.start
        spoken: list[int] = []
        while len(spoken) < frames:
            first, after = int(offsets[state]), int(offsets[state + 1])
            if first == after:
                break
            cost = arcs.weight[first:after].astype(np.float64)
            chance = np.exp(-(cost - cost.min()))
            arc = first + int(rng.choice(after - first, p=chance / chance.sum()))
            token = int(arcs.ilabel[arc]) - 1
            if token > 0:
                spoken += [token] * int(rng.integers(1, 3)) + [0] * int(rng.integers(1, 3))
            state = int(arcs.target[arc])
        spoken = spoken[:frames] or [0]
        rows = rng.normal(0.0, noise, (len(spoken), graph.num_tokens))
        rows[np.arange(len(spoken)), spoken] += 10.0 - noise
        rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
        out.append(rows.astype(np.float32))
    return out


def copy_bandwidth(device: str) -> float:
    """Bytes a second that a large copy on a device moves, read and written."""
    import torch

    size = 2**30 if device.startswith("cuda") else 2**26
    a = torch.empty(size, dtype=torch.uint8, device=device)
    b = torch.ones_like(a)
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        for _ in range(4):
            a.copy_(b)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) / 4)
    return 2 * size / float(np.median(times[1:]))


def arcs_a_frame(graph: Any, utterances: Sequence[Array], options: SearchOptions) -> float:
    """How many arcs the reference visits on a frame, by six of the utterances."""
    from uyir.decode.engines.packed import pack
    from uyir.decode.engines.reference import Search, Tables

    packed, visited, frames = pack(graph), 0, 0
    tables = Tables(packed)
    for utterance in utterances[:: max(1, len(utterances) // 6)][:6]:
        search = Search(packed, options.beam, options.max_active, options.acoustic_scale, tables)
        search.advance(utterance)
        visited, frames = visited + search.arcs_visited, frames + len(utterance)
    return visited / max(1, frames)


def pad(utterances: Sequence[Array]) -> tuple[Array, Array]:
    """Utterances (T_i, C) as one (N, T, C) and lengths (N)."""
    lengths = np.array([len(u) for u in utterances], dtype=np.int64)
    rows = np.zeros(
        (len(utterances), int(lengths.max(initial=0)), utterances[0].shape[1]), np.float32
    )
    for row, utterance in zip(rows, utterances):
        row[: len(utterance)] = utterance
    return rows, lengths


class Riva:
    """riva-asrlib-decoder over the same graph: a peer to measure with, not an engine."""

    def __init__(self, graph: Any, options: SearchOptions, batch: int) -> None:
        import os
        import tempfile

        from riva.asrlib.decoder.python_decoder import (
            BatchedMappedDecoderCuda,
            BatchedMappedDecoderCudaConfig,
        )

        from uyir.decode.graph_files import openfst_bytes

        config = BatchedMappedDecoderCudaConfig()
        config.n_input_per_chunk = 50
        online = config.online_opts
        online.decoder_opts.default_beam = options.beam
        online.decoder_opts.lattice_beam = min(options.lattice_beam, options.beam)
        online.decoder_opts.max_active = options.max_active
        online.decoder_opts.ntokens_pre_allocated = 10_000_000
        online.determinize_lattice = True
        online.max_batch_size = batch
        online.num_channels = 2 * batch
        online.frame_shift_seconds = FRAME_S
        post = online.lattice_postprocessor_opts
        post.acoustic_scale, post.lm_scale, post.word_ins_penalty = 1.0, 1.0, 0.0
        post.nbest = options.nbest
        online.num_decoder_copy_threads = 2
        online.num_post_processing_worker_threads = max(2, (os.cpu_count() or 4) - 2)
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        (folder / "HLG.fst").write_bytes(openfst_bytes(graph.arcs))
        words = "".join(f"w{i} {i}\n" for i in range(1, graph.num_words))
        (folder / "words.txt").write_text("<eps> 0\n" + words)
        self._decoder = BatchedMappedDecoderCuda(
            config, str(folder / "HLG.fst"), str(folder / "words.txt"), graph.num_tokens
        )

    def search(self, rows: Any, lengths: Array) -> list[tuple[float, tuple[int, ...]]]:
        """Score (a log, higher is better) and words of the best path of each utterance."""
        import torch

        found = self._decoder.decode_nbest(rows, torch.from_numpy(lengths))
        return [(-float(n[0].score), tuple(n[0].words)) if n else (-np.inf, ()) for n in found]


def _timed(run: Callable[[], Any], repeat: int, gpu: bool) -> tuple[Any, float]:
    times = []
    begin = time.perf_counter()
    result = run()
    while gpu and time.perf_counter() - begin < _WARM_S:
        result = run()
    for _ in range(repeat):
        if gpu:
            import torch

            torch.cuda.synchronize()
        begin = time.perf_counter()
        result = run()
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return result, float(np.median(times))


def measure(
    name: str,
    graph: Any,
    utterances: Sequence[Array],
    options: SearchOptions,
    batch: int,
    device: str,
    repeat: int,
) -> tuple[Measurement, Array]:
    """Measure one engine at one setting; also its best-path scores (N)."""
    import torch

    gpu = device.startswith("cuda") and name in ("cuda", "k2", "riva")
    free = torch.cuda.mem_get_info(device)[0] if gpu else 0
    engine: Any = (
        Riva(graph, options, min(batch, 400))
        if name == "riva"
        else create(name, graph, options, device=device)
    )
    batches = []
    for begin in range(0, len(utterances), batch):
        rows, lengths = pad(utterances[begin : begin + batch])
        held = torch.from_numpy(rows)
        batches.append((held.to(device) if gpu else held, lengths))
    counts = [0, 0]

    def decode() -> list[Any]:
        out: list[Any] = []
        counts[:] = [0, 0]
        for rows, lengths in batches:
            out += (engine.search if name == "riva" else engine.decode)(rows, lengths)
        return out

    def search() -> None:
        counts[:] = [0, 0]
        for rows, lengths in batches:
            engine.search(rows, lengths)
            counts[0] += engine.counts[0]
            counts[1] += engine.counts[1]

    frames = sum(len(u) for u in utterances)
    alone, peak = None, None
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        held_mb = sum(rows.numel() * rows.element_size() for rows, _ in batches) / 1e6
    found, seconds = _timed(decode, max(1, repeat), gpu)
    if gpu and name == "k2":
        peak = (torch.cuda.max_memory_allocated() - before) / 1e6
    elif gpu and name == "riva":  # takes its memory past torch, and keeps it
        peak = (free - torch.cuda.mem_get_info(device)[0]) / 1e6 - held_mb
    if name == "cuda":
        search()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _, alone = _timed(search, repeat, gpu)
        peak = (torch.cuda.max_memory_allocated() - before) / 1e6
    elif name == "reference":
        counts = [engine.counts[0], engine.counts[1]]
    if name == "riva":
        scores = np.array([score for score, _ in found])
        ended = np.isfinite(scores)
    else:
        scores = np.array([hypotheses[0].score for hypotheses in found])
        ended = np.array([hypotheses[0].final for hypotheses in found])
    if hasattr(engine, "close"):
        engine.close()
    counted = name in ("cuda", "reference")
    return (
        Measurement(
            engine=name,
            beam=options.beam,
            max_active=options.max_active,
            nbest=options.nbest,
            batch=batch,
            frames=frames,
            frames_per_s=frames / seconds,
            search_frames_per_s=frames / alone if alone else None,
            times_real_time=FRAME_S * frames / (alone or seconds),
            peak_mb=peak,
            active=counts[1] / frames if counted else None,
            arcs=counts[0] / frames if counted else None,
            behind=None,
            worse=None,
            unfinished=float(1 - ended.mean()),
        ),
        scores,
    )


def compare(
    graph: Any,
    utterances: Sequence[Array],
    engines: Sequence[str],
    settings: Sequence[tuple[float, int]],
    batches: Sequence[int],
    *,
    nbest: int = 1,
    device: str = "cpu",
    repeat: int = 3,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Measurement]:
    """Every engine at every setting; search errors are against the best score that any of them found (riva's apart)."""
    from dataclasses import replace

    done: list[tuple[Measurement, Array]] = []
    arcs: dict[tuple[float, int], float] = {}
    if "cuda" in engines or "reference" in engines:
        # The floor counts the arcs that the reference visits, on a sample.
        for beam, most in settings:
            arcs[beam, most] = arcs_a_frame(graph, utterances, SearchOptions(beam, most))
    bandwidth = copy_bandwidth(device)
    for beam, most in settings:
        for name in engines:
            for batch in batches if name in ("cuda", "k2", "riva") else batches[:1]:
                options = SearchOptions(beam=beam, max_active=most, nbest=nbest, threads=64)
                try:
                    done.append(measure(name, graph, utterances, options, batch, device, repeat))
                except (UyirError, RuntimeError) as error:
                    say(f"{name}, beam {beam:g}, batch {batch}: {error}")
    # riva does not say whether a path ended in a final state, and some that did not score above all that did.
    told = [scores for one, scores in done if one.engine != "riva"] or [s for _, s in done]
    best = np.max(told, axis=0) if told else np.empty(0)
    for one, scores in done:
        good = np.isfinite(best) & np.isfinite(scores)
        if one.engine == "riva":
            above = good & (scores > best + 1e-3 * np.maximum(1.0, np.abs(best) / 1000))
            one = replace(one, unfinished=one.unfinished + float(above.mean()))
            good &= ~above
        lost = (best - scores)[good]
        floor = arcs.get((one.beam, one.max_active))
        yield replace(
            one,
            behind=float(lost.mean()) if len(lost) else None,
            worse=float((lost > 1e-3 * np.maximum(1.0, np.abs(best[good]) / 1000)).mean())
            if len(lost)
            else None,
            floor_frames_per_s=bandwidth / (floor * ARC_BYTES) if floor else None,
        )


def table(rows: Sequence[Measurement]) -> str:
    """Measurements for people, a line each."""
    head = (
        f"{'engine':10}{'beam':>6}{'active':>8}{'nbest':>6}{'batch':>6}{'frames/s':>12}{'search f/s':>12}{'x real':>9}"
        f"{'peak MB':>9}{'states':>8}{'arcs':>8}{'behind':>9}{'worse':>7}{'unfin.':>7}{'floor f/s':>12}"
    )

    def cell(value: Optional[float], width: int, form: str) -> str:
        return f"{'-':>{width}}" if value is None else f"{value:>{width}{form}}"

    lines = [head]
    for r in rows:
        lines.append(
            f"{r.engine:10}{r.beam:>6g}{r.max_active:>8}{r.nbest:>6}{r.batch:>6}{r.frames_per_s:>12,.0f}"
            f"{cell(r.search_frames_per_s, 12, ',.0f')}{r.times_real_time:>9,.0f}{cell(r.peak_mb, 9, ',.0f')}"
            f"{cell(r.active, 8, ',.0f')}{cell(r.arcs, 8, ',.0f')}{cell(r.behind, 9, '.4f')}{cell(r.worse, 7, '.3f')}"
            f"{r.unfinished:>7.3f}{cell(r.floor_frames_per_s, 12, ',.0f')}"
        )
    return "\n".join(lines)


@click.group()
def bench() -> None:
    """Measure search engines side by side."""


@bench.command("search")
@click.argument("audio", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--model", default=None, help="Model folder or bundled name.  [default: base]")
@click.option("--language", default="ta", show_default=True, help="Whose graph is searched.")
@click.option("--graph", "graph_file", type=click.Path(exists=True, path_type=Path), help="HLG.safetensors to search, instead of the model's.")  # fmt: skip
@click.option("--log-probs", type=click.Path(exists=True, path_type=Path), help="NPZ with log_probs (sum of T, C) and lengths (N), instead of audio.")  # fmt: skip
@click.option("--synthetic", "made", type=int, default=0, help="This many random ways through the graph, instead of audio.")  # fmt: skip
@click.option("--noise", type=float, default=2.0, show_default=True, help="Of --synthetic.")
@click.option("--limit", type=int, default=None, help="At most so many utterances.")
@click.option("--count", type=int, default=None, help="Take utterances again until there are so many.")  # fmt: skip
@click.option("--engine", "engines", multiple=True, help="Repeatable.  [default: all that can run]")
@click.option("--beam", "beams", multiple=True, default=("12:3000", "16:7000"), show_default=True, help="BEAM:MAX_ACTIVE, repeatable.")  # fmt: skip
@click.option("--batch", "batches", multiple=True, type=int, default=(600,), show_default=True)
@click.option("--nbest", type=int, default=1, show_default=True)
@click.option("--repeat", type=int, default=3, show_default=True, help="The median is given.")
@click.option("--device", default=None, help="cpu or cuda.  [default: cuda where there is one]")
@click.option("--peers", is_flag=True, help="Also riva-asrlib-decoder, where it is installed.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON a measurement.")
def search(
    audio: tuple[Path, ...],
    model: Optional[str],
    language: str,
    graph_file: Optional[Path],
    log_probs: Optional[Path],
    made: int,
    noise: float,
    limit: Optional[int],
    count: Optional[int],
    engines: tuple[str, ...],
    beams: tuple[str, ...],
    batches: tuple[int, ...],
    nbest: int,
    repeat: int,
    device: Optional[str],
    peers: bool,
    as_json: bool,
) -> None:
    """Frames a second, memory, active states, arcs and search errors of engines × beams × batches."""
    import torch

    from uyir.decode.graph import Graph
    from uyir.decode.transcribe import find_model, graph_folder, load

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if graph_file is None:
        graph_file = graph_folder(find_model(model)) / language / "HLG.safetensors"
    graph = Graph.load(graph_file)
    if log_probs is not None:
        with np.load(log_probs) as data:
            ends = np.cumsum(data["lengths"])
            utterances = np.split(data["log_probs"].astype(np.float32), ends[:-1])
    elif made:
        utterances = synthetic(graph, made, noise, seed=0)
    elif audio:
        recogniser = load(model, device=device)
        from uyir.asr.audio import read_audio

        utterances = []
        for path in audio:
            rows, lengths = recogniser.log_probs([read_audio(path)[0]], language)
            utterances.append(rows[0, : int(lengths[0])].float().cpu().numpy())
    else:
        raise click.UsageError("give audio files, --log-probs or --synthetic")
    utterances = utterances[:limit]
    if count is not None and utterances:
        utterances = [utterances[i % len(utterances)] for i in range(count)]
    names = list(engines) or [n for n in NAMES if n != "reference" and why_not(n) is None]
    if peers:
        names.append("riva")
    found = list(
        compare(
            graph,
            utterances,
            names,
            [_setting(text) for text in beams],
            batches,
            nbest=nbest,
            device=device,
            repeat=repeat,
            say=lambda text: click.echo(text, err=True),
        )
    )
    if as_json:
        for one in found:
            click.echo(json.dumps(asdict(one)))
    else:
        click.echo(table(found))


def _setting(text: str) -> tuple[float, int]:
    beam, _, most = text.partition(":")
    try:
        return float(beam), int(most or 7000)
    except ValueError:
        raise EngineError(f"--beam {text}: want BEAM:MAX_ACTIVE, as in 12:3000") from None
