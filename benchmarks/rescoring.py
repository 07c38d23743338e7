"""Word error rates before and after rescoring with a larger language model.

    python benchmarks/rescoring.py MANIFEST.tsv --language ta --model MODEL --rescore LM.safetensors \\
        [--scale 0.5 0.75 1.0] [--limit 100] [--engine kaldi]

MANIFEST is one of `recipes/synthetic/synthesise.py` (``id audio duration language text``). The network runs once; then
every setting searches the same log_probs. A JSON object a setting: rates, and processor seconds of search a second of
audio.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from uyir.asr.audio import SAMPLE_RATE
from uyir.asr.data import SampleReader, read_manifest
from uyir.decode.engines import SearchOptions
from uyir.decode.pauses import Stretch
from uyir.decode.score import score_pairs
from uyir.decode.transcribe import load
from uyir.errors import UyirError


def heard(arguments: argparse.Namespace) -> list[tuple[str, float, Any]]:
    """(text, seconds, log_probs (1, T, C)) of each utterance."""
    recogniser = load(arguments.model, rescore="")
    spoken = read_manifest(arguments.manifest, recogniser._tokens)
    chosen = sorted(
        (one for one in spoken if one.language == arguments.language), key=lambda s: s.id
    )
    reader, out = SampleReader(), []
    for one in chosen[: arguments.limit]:
        wave = reader.read(one).astype(np.float32) / 32768.0
        log_probs, lengths = recogniser.log_probs([wave], arguments.language)
        out.append(
            (one.text, len(wave) / SAMPLE_RATE, log_probs[:, : int(lengths[0])].cpu().numpy())
        )
    return out


def measure(
    arguments: argparse.Namespace, utterances: list[Any], rescore: Any, scale: float
) -> dict[str, Any]:
    options = SearchOptions(beam=arguments.beam, lattice_beam=arguments.lattice_beam)
    recogniser = load(
        arguments.model,
        engine=arguments.engine,
        options=options,
        rescore=rescore,
        rescore_scale=scale,
    )
    spoken = recogniser.language(arguments.language)
    begin, pairs = time.process_time(), []
    for text, _, log_probs in utterances:
        (found,) = spoken.engine.decode(log_probs, np.array([log_probs.shape[1]]))
        segment = spoken.segment(Stretch(0, 4 * SAMPLE_RATE * log_probs.shape[1]), found)
        pairs.append((text, segment.text))
    seconds = time.process_time() - begin
    recogniser.close()
    scores = score_pairs(pairs, arguments.language)
    return {
        "language": arguments.language,
        "rescore": str(rescore) or None,
        "scale": scale if rescore else None,
        "utterances": len(pairs),
        "words": scores.words.units,
        "wer": round(scores.wer, 4),
        "cer": round(scores.cer, 4),
        "search_rtf": round(seconds / sum(u[1] for u in utterances), 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--language", required=True)
    parser.add_argument("--model")
    parser.add_argument("--rescore", type=Path, required=True)
    parser.add_argument("--scale", type=float, nargs="*", default=[1.0])
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--engine")
    parser.add_argument("--beam", type=float, default=14.0)
    parser.add_argument("--lattice-beam", type=float, default=8.0)
    arguments = parser.parse_args()
    settings: list[tuple[Any, float]] = [
        ("", 1.0),
        *((arguments.rescore, s) for s in arguments.scale),
    ]
    try:
        utterances = heard(arguments)
        for rescore, scale in settings:
            print(json.dumps(measure(arguments, utterances, rescore, scale)), flush=True)
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
