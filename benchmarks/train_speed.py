"""How fast training runs: hours of audio a second, waiting for data, memory; compiled or not, on one GPU or several.

    python benchmarks/train_speed.py --model ear [--compile] [--steps 60]
    torchrun --nproc-per-node 2 benchmarks/train_speed.py --model ear

Trains on noise of the lengths that speech has, cut from one file, with all augmentation; the first steps, in which
kernels are chosen and compiled, are timed apart.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uyir.asr.config import Source, TrainConfig
from uyir.asr.train import Trainer
from uyir.errors import UyirError
from uyir.lexicon.symbols import tokens_table

#: Name: model and frontend.
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ear": (
        {"encoder": "whisper", "dim": 512, "heads": 8, "layers": 6, "dropout": 0.05},
        {"kind": "whisper-logmel"},
    ),
    "conformer": (
        {"dim": 256, "heads": 4, "ffn_dim": 1024, "layers": 12, "kernel": 31, "inter_layer": 6},
        {},
    ),
    "small": (
        {
            "dim": 144,
            "heads": 4,
            "ffn_dim": 432,
            "layers": 6,
            "kernel": 15,
            "subsampling_channels": 32,
            "inter_layer": 3,
        },
        {},
    ),
    "tdnn": (
        {
            "encoder": "tdnn",
            "dim": 256,
            "ffn_dim": 128,
            "layers": 10,
            "kernel": 3,
            "inter_layer": 5,
        },
        {},
    ),
}


def make_data(folder: Path, hours: float) -> None:
    """Noise of 2 to 12 s an utterance in one shard, 11 phones a second."""
    rng = np.random.default_rng(0)
    phones = list(tokens_table())[2:]
    lines = ["id\taudio\tduration\tlanguage\ttext\tphones"]
    samples = (3000 * rng.standard_normal(16000 * 600)).astype("<i2")
    total = 0.0
    while total < 3600 * hours:
        seconds = float(rng.uniform(2.0, 12.0))
        start = int(rng.integers(0, len(samples) - 16000 * 12))
        said = " ".join(rng.choice(phones, size=int(11 * seconds)))
        name = f"u{len(lines)}"
        audio = f"noise.i16@{start}+{int(16000 * seconds)}"
        lines.append(
            f"{name}\t{audio}\t{seconds:.3f}\t{'ta' if len(lines) % 2 else 'kn'}\tx\t{said}"
        )
        total += seconds
    (folder / "noise.i16").write_bytes(samples.tobytes())
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    model, frontend = MODELS[arguments.model]
    warm = max(4, arguments.steps // 4)
    config = TrainConfig(
        train=(Source(str(folder / "manifest.tsv")),),
        dev=(),
        output=str(folder / f"run-{arguments.model}-{arguments.compile}"),
        model=model,
        frontend=frontend,
        batch_seconds=arguments.batch_seconds,
        workers=arguments.workers,
        steps=warm + arguments.steps,
        compile=arguments.compile,
        log_steps=1 << 30,
        eval_steps=1 << 30,
        save_seconds=1e9,
        normalisation_batches=2,
    )
    trainer = Trainer(config, arguments.device, lambda line: None)
    on_gpu = trainer.device.type == "cuda"
    trainer._set_normalisation()
    batches = trainer._batches()
    seconds, audio, waited = [0.0, 0.0], [0.0, 0.0], 0.0
    for step in range(config.steps):
        timed = step >= warm
        before, heard = time.perf_counter(), trainer.progress.audio_seconds
        batch = next(batches)
        if timed:
            waited += time.perf_counter() - before
        trainer._step(batch)
        if on_gpu:
            torch.cuda.synchronize()
        seconds[timed] += time.perf_counter() - before
        audio[timed] += trainer.progress.audio_seconds - heard
    return {
        "model": arguments.model,
        "compile": arguments.compile,
        "processes": trainer.processes.world,
        "device": torch.cuda.get_device_name()
        if on_gpu
        else f"CPU, {torch.get_num_threads()} threads",
        "batch_seconds": arguments.batch_seconds,
        "audio_per_second": round(audio[1] / seconds[1], 1),
        "data_wait": round(waited / seconds[1], 4),
        "first_steps_s": round(seconds[0], 1),
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if on_gpu else None,
        "skipped": trainer.progress.skipped,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="ear")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=60, help="that are timed")
    parser.add_argument("--hours", type=float, default=4.0, help="of noise an epoch")
    parser.add_argument("--batch-seconds", type=float, default=600.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--device")
    parser.add_argument("--work", type=Path, help="keep the data here")
    arguments = parser.parse_args()
    first = os.environ.get("RANK", "0") == "0"
    try:
        with tempfile.TemporaryDirectory(prefix="uyir-train-speed-") as scratch:
            folder = arguments.work or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            # Every process writes the same bytes, to its own folder unless they share one.
            if not (folder / "manifest.tsv").exists():
                make_data(folder, arguments.hours)
            found = measure(arguments, folder)
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if first:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
