"""Word and letter error rates of a model on a training manifest, a language at a time, as JSON.

python recipes/score.py MANIFEST.tsv MODEL --out score.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from uyir.asr.checkpoint import read_tokens
from uyir.asr.data import SampleReader, Utterance, read_manifest
from uyir.asr.files import write_whole
from uyir.decode.score import score_pairs
from uyir.decode.transcribe import Recogniser, load
from uyir.errors import DataError, UyirError


def measure(
    recogniser: Recogniser, utterances: list[Utterance], language: str
) -> dict[str, object]:
    reader = SampleReader()
    waves = [reader.read(u).astype(np.float32) / 32768.0 for u in utterances]
    found = recogniser.transcribe(waves, language)
    pairs = [(u.text, transcript.text) for u, transcript in zip(utterances, found)]
    score = score_pairs(pairs, language)
    return {
        "utterances": len(utterances),
        "words": score.words.units,
        "wer": round(score.wer, 4),
        "cer": round(score.cer, 4),
        "failed": sum(transcript.error is not None for transcript in found),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        utterances = read_manifest(arguments.manifest, read_tokens(arguments.model / "tokens.txt"))
        if not utterances:
            raise DataError("no utterance to score", arguments.manifest)
        recogniser = load(arguments.model)
        scores = {
            language: measure(
                recogniser, [u for u in utterances if u.language == language], language
            )
            for language in sorted({u.language for u in utterances})
        }
        write_whole(arguments.out, json.dumps(scores, indent=1) + "\n")
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
