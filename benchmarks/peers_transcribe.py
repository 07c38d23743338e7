"""The speed of `uyir transcribe` beside faster-whisper's, on the same recordings in the same run.

    python benchmarks/peers_transcribe.py --peer-python FW/bin/python --whisper FOLDER [--threads 2]
        [--language kn] [--rounds 2] [--model FOLDER] RECORDING...

FW is an environment with faster-whisper; FOLDER a CTranslate2 model of Whisper base (``model.bin``,
``tokenizer.json``, ``vocabulary.json``, ``config.json``). Both transcribe every recording with as many
threads, faster-whisper with int8 and beam 5. Loading is left out for both: theirs is timed around
``transcribe`` in their process, ours by the wall time of the whole command less that of the same
command on nothing but half a second of silence. The two take turns, so that what else the machine does
falls on both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

PEER = """
import json, sys, time
from faster_whisper import WhisperModel
folder, threads, language, *files = sys.argv[1:]
model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=int(threads))
begin = time.perf_counter()
words = 0
for file in files:
    segments, info = model.transcribe(file, language=language, beam_size=5)
    words += sum(len(s.text.split()) for s in segments)
print(json.dumps({"seconds": time.perf_counter() - begin, "words": words}))
"""


def peer(arguments: argparse.Namespace, files: list[str]) -> tuple[float, int]:
    done = subprocess.run(
        [
            *(arguments.peer_python, "-c", PEER, arguments.whisper, str(arguments.threads)),
            *(arguments.language, *files),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["words"]


def ours(arguments: argparse.Namespace, files: list[str]) -> tuple[float, int]:
    command = [sys.executable, "-m", "uyir", "transcribe", "-l", arguments.language]
    command += ["--threads", str(arguments.threads)]
    if arguments.model:
        command += ["--model", arguments.model]
    begin = time.perf_counter()
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=True)
    return time.perf_counter() - begin, len(done.stdout.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--whisper", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--language", default="kn")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model")
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    audio = sum(soundfile.info(file).duration for file in arguments.files)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        silence = str(Path(folder) / "silence.wav")
        soundfile.write(silence, np.zeros(8000), 16000)
        for _ in range(arguments.rounds):
            start, _ = ours(arguments, [silence])
            whole, our_words = ours(arguments, arguments.files)
            theirs, their_words = peer(arguments, arguments.files)
            mine = whole - start
            ratios.append(theirs / mine)
            print(
                f"{audio:.1f} s of audio, {arguments.threads} threads: uyir {audio / mine:.1f} × real "
                f"time ({start:.1f} s of loading besides, {our_words} words), faster-whisper "
                f"{audio / theirs:.1f} × ({their_words} words): {theirs / mine:.1f} times as fast",
                flush=True,
            )
    print(f"least ratio {min(ratios):.1f}")


if __name__ == "__main__":
    main()
