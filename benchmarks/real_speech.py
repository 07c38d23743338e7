"""WER and CER of a model on recordings listed in a manifest, set by set.

    python benchmarks/real_speech.py MANIFEST.tsv --model base [--set halthor-kn] [--match 'sample\\d*[048]\\.']

The manifest is a TSV with at least ``set language kind text audio`` (audio relative to it). Whole
groups of (set, kind) are reported; digits and letters of other scripts stay as the normaliser leaves them.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

from uyir.decode.engines import SearchOptions
from uyir.decode.score import score_pairs
from uyir.decode.transcribe import load
from uyir.errors import UyirError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--set", dest="only")
    parser.add_argument("--kind")
    parser.add_argument("--match", default="", help="regular expression over the audio's path")
    parser.add_argument("--beam", type=float)
    parser.add_argument("--acoustic-scale", type=float)
    parser.add_argument("--show", type=int, default=0, help="print the first N of each group")
    arguments = parser.parse_args()
    groups: dict[tuple[str, str, str], list[tuple[str, Path]]] = defaultdict(list)
    with arguments.manifest.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            wanted = (
                row["text"]
                and arguments.only in (None, row["set"])
                and arguments.kind in (None, row["kind"])
                and re.search(arguments.match, row["audio"])
            )
            if wanted:
                key = (row["set"], row["kind"], row["language"])
                groups[key].append((row["text"], arguments.manifest.parent / row["audio"]))
    chosen = {}
    if arguments.beam is not None:
        chosen["beam"] = arguments.beam
    if arguments.acoustic_scale is not None:
        chosen["acoustic_scale"] = arguments.acoustic_scale
    try:
        recogniser = load(
            arguments.model,
            options=SearchOptions(**chosen),
            tuned=arguments.acoustic_scale is None,
        )
        for (name, kind, language), items in sorted(groups.items()):
            begin = time.time()
            transcripts = recogniser.transcribe([path for _, path in items], language)
            seconds = time.time() - begin
            for (text, _), found in list(zip(items, transcripts))[: arguments.show]:
                print(f"ref {text}\nhyp {found.text}", file=sys.stderr)
            score = score_pairs(
                [(text, found.text) for (text, _), found in zip(items, transcripts)], language
            )
            print(
                json.dumps(
                    {
                        "set": name,
                        "kind": kind,
                        "language": language,
                        "model": recogniser.folder.name,
                        "utterances": len(items),
                        "words": score.words.units,
                        "wer": round(score.wer, 4),
                        "cer": round(score.cer, 4),
                        "exact": round(1 - score.ser, 4),
                        "failed": sum(found.error is not None for found in transcripts),
                        "rtf": round(seconds / sum(t.duration for t in transcripts), 4),
                    },
                    ensure_ascii=False,
                )
            )
        recogniser.close()
    except UyirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
