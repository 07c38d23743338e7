"""What adapting to a few recordings brings: error rates of a set's other recordings, before and after.

    python benchmarks/adaptation.py MANIFEST.tsv --set halthor-kn --kind sentence --count 20 \\
        --test 'sample([48]|\\d*[02468][048]|\\d*[13579][26])(_\\d)?\\.' [--model base] [--options '--minutes 6']

Of the set's recordings with text, those whose path matches ``--test`` are the test; of the others, up to
30 s long, the first `count` in the manifest's order (``--spread``: evenly from all of it) are adapted to, by
the command that users run.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile

from uyir.decode.score import score_pairs
from uyir.decode.transcribe import load
from uyir.errors import UyirError

_UYIR = "import sys; del sys.path[0]; from uyir.cli import main; sys.exit(main())"


def measure(model: str, items: list[tuple[str, Path]], language: str) -> dict[str, Any]:
    recogniser = load(model)
    found = recogniser.transcribe([path for _, path in items], language)
    recogniser.close()
    score = score_pairs([(text, t.text) for (text, _), t in zip(items, found)], language)
    return {
        "wer": round(score.wer, 4),
        "cer": round(score.cer, 4),
        "exact": round(1 - score.ser, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--set", dest="only", required=True)
    parser.add_argument("--kind")
    parser.add_argument("--test", required=True, help="regular expression over the audio's path")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--spread", action="store_true")
    parser.add_argument("--model", default="base")
    parser.add_argument("--options", default="", help="of uyir adapt, as one text")
    arguments = parser.parse_args()
    train: list[tuple[str, Path]] = []
    test: list[tuple[str, Path]] = []
    language = ""
    with arguments.manifest.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if not row["text"] or row["set"] != arguments.only:
                continue
            if arguments.kind not in (None, row["kind"]):
                continue
            language = row["language"]
            path = arguments.manifest.parent / row["audio"]
            if re.search(arguments.test, row["audio"]):
                test.append((row["text"], path))
            elif soundfile.info(str(path)).duration < 30:
                train.append((row["text"], path))
    if arguments.spread:
        step = max(1, len(train) // arguments.count)
        train = train[::step]
    train = train[: arguments.count]
    with tempfile.TemporaryDirectory(prefix="uyir-adaptation-") as scratch:
        mine = Path(scratch) / "mine"
        mine.mkdir()
        seconds = 0.0
        for number, (text, path) in enumerate(train):
            shutil.copy(path, mine / f"{number:03d}{path.suffix}")
            (mine / f"{number:03d}.txt").write_text(text, encoding="utf-8")
            seconds += soundfile.info(str(path)).duration
        command = [sys.executable, "-c", _UYIR, "adapt", str(mine), "--language", language]
        command += [
            "--model",
            arguments.model,
            "--output",
            str(Path(scratch) / "new"),
            "--device",
            "cpu",
        ]
        begin = time.monotonic()
        try:
            subprocess.run(
                [*command, *shlex.split(arguments.options)], check=True, stdout=sys.stderr
            )
            took = time.monotonic() - begin
            before = measure(arguments.model, test, language)
            after = measure(str(Path(scratch) / "new"), test, language)
        except (UyirError, subprocess.CalledProcessError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    found = {
        "set": arguments.only,
        "model": arguments.model,
        "adapted_to": len(train),
        "seconds": round(seconds, 1),
        "adapting_s": round(took, 1),
        "tested_on": len(test),
        "before": before,
        "after": after,
    }
    print(json.dumps(found, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
