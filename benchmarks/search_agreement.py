"""Best-path scores of search engines on the same 1,000 utterances: do they agree?

    python benchmarks/search_agreement.py make HLG.safetensors RECORDED.npz SET.npz
    python benchmarks/search_agreement.py score HLG.safetensors SET.npz OUT.npy --engine kaldi --beam 18:20000 [--jobs 8]
    python benchmarks/search_agreement.py compare SET.npz OUT.npy...

``make``: 250 random ways through the graph for each of three levels of noise (`uyir.decode.engines.bench.synthetic`,
32 frames) and pieces of recorded log_probs (RECORDED.npz: log_probs (sum of T, C) and lengths (N)). ``score``: score and
whether a final state was reached, (N, 2); engines are ours and riva; goes on where it was stopped. ``compare``: a line
for each kind of log_probs and each file: utterances within 1e-3 of the best score that any file has, how far the others are
behind. riva (a file named riva…) does not say whether a path ended in a final state: where it scores above all others, which
were to have searched widely, it did not; such utterances are told of and then left out for all.
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uyir.decode.engines import SearchOptions, bench, create
from uyir.decode.graph import Graph

NOISES = (1.0, 2.0, 3.0)
EACH, COUNT, CHUNK = 250, 1000, 10


def make(graph_file: Path, recorded: Path, out: Path) -> None:
    """Write a set: half precision, which every engine is given as float32."""
    graph = Graph.load(graph_file)
    parts = [u for n in NOISES for u in bench.synthetic(graph, EACH, n, int(n), frames=32)]
    kinds = np.repeat(NOISES, EACH).tolist()
    real = utterances(recorded)
    for k in range(1000 * len(real)):
        if len(parts) == COUNT:
            break
        row, turn = real[k % len(real)], k // len(real)
        piece = row[24 * turn : 24 * turn + 48] if turn else row[:60]
        if len(piece) >= 10:
            parts.append(piece)
            kinds.append(0.0)
    rows = np.concatenate(parts).astype(np.float16)
    np.savez(out, log_probs=rows, lengths=np.array([len(p) for p in parts]), kinds=np.array(kinds))


def utterances(path: Path) -> list[Any]:
    """The utterances (T, C) of a file."""
    with np.load(path) as data:
        ends = np.cumsum(data["lengths"])
        return np.split(data["log_probs"].astype(np.float32), ends[:-1])


def score(job: tuple[Path, list[Any], str, SearchOptions, int]) -> Any:
    """(N, 2) score and whether a final state was reached, of some utterances."""
    graph_file, rows, name, options, chunk = job
    torch.set_num_threads(1)
    graph = Graph.load(graph_file)
    device = "cuda" if torch.cuda.is_available() and name in ("cuda", "k2", "riva") else "cpu"
    found: list[tuple[float, float]] = []
    engine: Any = (
        bench.Riva(graph, options, 100)
        if name == "riva"
        else create(name, graph, options, device=device)
    )
    for begin in range(0, len(rows), chunk):
        batch, lengths = bench.pad(rows[begin : begin + chunk])
        held = torch.from_numpy(batch).to(device)
        if name == "riva":
            found += [(s, float(np.isfinite(s))) for s, _ in engine.search(held, lengths)]
        else:
            best = [hypotheses[0] for hypotheses in engine.decode(held, lengths)]
            found += [(h.score, float(h.final)) for h in best]
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def compare(kinds: Any, files: list[Path]) -> None:
    """Print how each file's scores stand to the best of all that were searched by every one."""
    scores = [np.load(path) for path in files]
    count = min(len(kinds), *map(len, scores))
    table = np.stack([np.where(s[:count, 1] > 0, s[:count, 0], -np.inf) for s in scores])
    peer = np.array(["riva" in path.stem for path in files])
    best = table[~peer].max(axis=0)
    above = (table[peer] > best + 1e-3).any(axis=0)
    print(f"{count} utterances; riva's unfinished paths in {int(above.sum())}")
    best[above] = -np.inf
    for kind in [*NOISES, 0.0, None]:
        which = np.ones(count, bool) if kind is None else kinds[:count] == kind
        name = "all" if kind is None else f"noise {kind:g}" if kind else "recorded"
        for path, row in zip(files, table):
            told = which & np.isfinite(best)
            behind = best[told] - row[told]
            lost = behind[np.isfinite(behind)]
            mean, worst = (lost.mean(), lost.max()) if len(lost) else (np.nan, np.nan)
            print(
                f"{name:10} {path.stem:28} of {len(behind)}: within 1e-3 {int((behind <= 1e-3).sum())}, "
                f"unfinished {int(np.isinf(behind).sum())}, behind: mean {mean:.4f}, at most {worst:.3f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "score", "compare"])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--engine", default="kaldi")
    parser.add_argument("--beam", default="16:7000", help="BEAM:MAX_ACTIVE")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=int, default=COUNT, help="Score at most so many this time.")
    arguments = parser.parse_args()
    if arguments.what == "make":
        make(*arguments.files)
        return
    if arguments.what == "compare":
        with np.load(arguments.files[0]) as data:
            compare(data["kinds"], arguments.files[1:])
        return
    graph_file, rows_file, out = arguments.files
    beam, _, most = arguments.beam.partition(":")
    options = SearchOptions(beam=float(beam), max_active=int(most), threads=1)
    rows = utterances(rows_file)
    done = np.load(out) if out.exists() else np.empty((0, 2))
    todo = rows[len(done) : len(done) + arguments.limit]
    on_cpu = arguments.engine in ("kaldi", "k2", "reference")
    size, chunk = (50, CHUNK) if on_cpu else (COUNT, 500)
    jobs = [
        (graph_file, todo[i : i + size], arguments.engine, options, chunk)
        for i in range(0, len(todo), size)
    ]
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        # In order: what is done is written as it comes.
        for part in pool.imap(score, jobs):
            done = np.concatenate([done, part])
            np.save(out, done)


if __name__ == "__main__":
    main()
