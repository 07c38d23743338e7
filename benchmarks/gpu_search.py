"""The `cuda` engine beside riva-asrlib-decoder on a GPU, on recorded and on made log_probs; times of its kernels.

    python benchmarks/gpu_search.py HLG.safetensors LOG_PROBS.npz [--noise 3 4] [--count 600] [--no-peers]

LOG_PROBS.npz: log_probs (sum of T, C) and lengths (N), taken again until there are ``--count``. Those made with a noise
are 60 random ways through the graph (`uyir.decode.engines.bench.synthetic`), each several times with a little more noise.
A search ends when its paths lie in host memory. A line of JSON a measurement. The graph that RESULTS.md tells of:

    python benchmarks/units_table.py --language ta --kind bpe --size 8000 --order 3 --min-counts 1 1 2 \\
        --max-ngrams 700000 --test dakshina_native_dev.txt.xz --models OUT --tokens TOKENS TEXT
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uyir.decode.engines import SearchOptions, bench
from uyir.decode.engines.cuda import CudaEngine
from uyir.decode.graph import Graph

SETTINGS = ((12.0, 3000), (16.0, 7000))


def recorded(path: Path, count: int) -> list[Any]:
    """The utterances of a file, again and again."""
    with np.load(path) as data:
        parts = np.split(data["log_probs"].astype(np.float32), np.cumsum(data["lengths"])[:-1])
    return [parts[i % len(parts)] for i in range(count)]


def made(graph: Graph, noise: float, count: int) -> list[Any]:
    """Random ways through the graph, no two the same."""
    few = bench.synthetic(graph, 60, noise, seed=0)
    rng = np.random.default_rng(1)
    return [
        (few[i % 60] + rng.normal(0.0, 0.05, few[i % 60].shape)).astype(np.float32)
        for i in range(count)
    ]


def milliseconds(run: Callable[[], Any], times: int = 5) -> float:
    """The median time of a run, after a second of runs that are not counted: an idle GPU's clock is a sixth of its
    full one."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < 1.0:
        run()
        torch.cuda.synchronize()
    took = []
    for _ in range(times):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(took))


def kernels(engine: CudaEngine, run: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of each kernel in a run."""
    events: list[tuple[str, Any, Any]] = []
    launch = engine.launch

    def timed(module: Any, name: str, *arguments: Any) -> None:
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call,unused-ignore]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call,unused-ignore]
        begin.record()  # type: ignore[no-untyped-call,unused-ignore]
        launch(module, name, *arguments)
        end.record()  # type: ignore[no-untyped-call,unused-ignore]
        events.append((name, begin, end))

    engine.launch = timed  # type: ignore[method-assign,assignment]
    milliseconds(run, 1)
    events.clear()
    run()
    torch.cuda.synchronize()
    engine.launch = launch  # type: ignore[method-assign]
    total: dict[str, float] = {}
    for name, begin, end in events:
        total[name] = round(total.get(name, 0.0) + begin.elapsed_time(end), 3)
    return total


def measure(graph: Graph, utterances: Sequence[Any], options: SearchOptions) -> dict[str, Any]:
    """The engine at one setting; a second search, so that it knows how much room is wanted."""
    rows, lengths = bench.pad(utterances)
    held = torch.from_numpy(rows).cuda()
    frames = sum(map(len, utterances))
    engine = CudaEngine(graph, options)

    def search() -> Any:
        return engine.search(held, lengths)

    search()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    took = milliseconds(search)
    peak = (torch.cuda.max_memory_allocated() - before) / 1e6
    counts = engine.counts
    whole = milliseconds(lambda: engine.decode(held, lengths), 2)
    scores = [found[0].score for found in engine.decode(held, lengths) if found[0].final]
    row = {
        "frames_per_s": round(1e3 * frames / took),
        "with_hypotheses": round(1e3 * frames / whole),
        "peak_mb": round(peak),
        "states": round(counts[1] / frames, 1),
        "arcs": round(counts[0] / frames),
        "mean_score": round(float(np.mean(scores)), 3),
        "kernels_ms": kernels(engine, search),
    }
    engine.close()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graph", type=Path)
    parser.add_argument("log_probs", type=Path)
    parser.add_argument("--noise", type=float, nargs="*", default=[3.0, 4.0])
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--nbest", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--no-recorded", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-floor", action="store_true")
    arguments = parser.parse_args()
    graph = Graph.load(arguments.graph)
    sets: dict[str, list[Any]] = {}
    if not arguments.no_recorded:
        sets["recorded"] = recorded(arguments.log_probs, arguments.count)
    sets.update({f"noise {n:g}": made(graph, n, arguments.count) for n in arguments.noise})
    bandwidth = bench.copy_bandwidth("cuda")
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "copy_tb_per_s": round(bandwidth / 1e12, 2)}), flush=True)  # fmt: skip
    for name, utterances in sets.items():
        for beam, most in SETTINGS:
            floor = 0.0
            if not arguments.no_floor:
                visits = bench.arcs_a_frame(graph, utterances, SearchOptions(beam, most))
                floor = bandwidth / (max(visits, 1.0) * bench.ARC_BYTES)
            for nbest in arguments.nbest:
                options = SearchOptions(beam=beam, max_active=most, nbest=nbest)
                row = {"log_probs": name, "beam": beam, "max_active": most, "nbest": nbest}
                row.update(measure(graph, utterances, options))
                if floor:
                    row["floor_frames_per_s"] = round(floor)
                    row["floor_times_faster"] = round(floor / row["frames_per_s"], 1)
                if not arguments.no_peers:
                    peer, _ = bench.measure("riva", graph, utterances, options, 400, "cuda", 1)
                    row["riva_frames_per_s"] = round(peer.frames_per_s)
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
