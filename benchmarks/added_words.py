"""What `uyir words add` and hotwords do for rare names, in inflected forms.

    python benchmarks/added_words.py --language kn [--model base] [--gain 6] [--manifest DEV.tsv]

50 made-up names, each in three cases, in a carrier sentence, spoken by espeak-ng in the reserved voices (espeak-ng
and its library are needed). Recall: how many of the forms stand in the transcripts. ``--manifest`` (columns
``language text audio``) is other speech, on which the word error rate should not rise. JSON on stdout.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np

from uyir.decode import added
from uyir.decode.score import score_pairs
from uyir.decode.transcribe import Recogniser, load
from uyir.grammar.join import join

VOICES = ("klatt5", "Andrea", "Michael", "grandpa", "f4", "Diogo")
CARRIER = {"ta": "நேற்று {} பற்றிப் பேசினார்கள்", "kn": "ನಿನ್ನೆ {} ಎಂದು ಹೇಳಿದರು"}
#: First and second halves of names that nobody has, and their endings in three cases.
HALVES = {
    "ta": (
        ("கொற்ற", "பைந்த", "நெடுமா", "செம்பி", "வேலூ", "திருமா", "மணிவா", "கதிரே", "பூம்பொ", "ஆதிசே"),
        ("யரசன்", "மிழவன்", "றத்தன்", "னவேலன்", "ழிலன்"),
    ),
    "kn": (
        ("ಚಂದ್ರ", "ರತ್ನ", "ವೀರ", "ಶಿವ", "ಹೊನ್ನ", "ಮಲ್ಲ", "ಗಂಗ", "ಧರ್ಮ", "ಸೋಮ", "ಕೆಂಪ"),
        ("ಭೂಷಪ್ಪ", "ನಾಯಪ್ಪ", "ಗೌಡಪ್ಪ", "ಸೆಟ್ಟಪ್ಪ", "ರಾಯಪ್ಪ"),
    ),
}
ENDINGS = {"ta": ("னை", "னுக்கு", "னிடம்"), "kn": ("ನನ್ನು", "ನಿಗೆ", "ನಿಂದ")}


def names_of(language: str) -> list[str]:
    first, second = HALVES[language]
    return [join([f"{a}+", f"+{b}"], language) for a in first for b in second]


def forms_of(name: str, language: str) -> list[str]:
    stem = name[: -len("ன்")] if language == "ta" else name
    return [stem + ending for ending in ENDINGS[language]]


def speaker(espeak: Optional[Path]) -> Any:
    path = Path(__file__).parents[1] / "recipes" / "synthetic" / "synthesise.py"
    specification = importlib.util.spec_from_file_location("synthesise", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["synthesise"] = module
    specification.loader.exec_module(module)
    return module, module.Espeak(espeak)


def recall(recogniser: Recogniser, language: str, spoken: list[tuple[str, Any]]) -> float:
    found = recogniser.transcribe([samples for _, samples in spoken], language)
    right = sum(form in t.text.split() for (form, _), t in zip(spoken, found))
    return round(right / len(spoken), 4)


def other_wer(recogniser: Recogniser, language: str, manifest: Optional[Path]) -> Optional[float]:
    if manifest is None:
        return None
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if row["language"] == language
        ]
    found = recogniser.transcribe([manifest.parent / row["audio"] for row in rows], language)
    pairs = [(row["text"], t.text) for row, t in zip(rows, found)]
    return round(score_pairs(pairs, language).wer, 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language", required=True, choices=sorted(CARRIER))
    parser.add_argument("--model")
    parser.add_argument("--gain", type=float, default=6.0)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--espeak", type=Path, help="folder of unpacked espeak-ng packages")
    arguments = parser.parse_args()
    language = arguments.language
    module, engine = speaker(arguments.espeak)
    names = names_of(language)
    spoken = []
    for number, name in enumerate(names):
        for form in forms_of(name, language):
            voicing = module.Voicing(
                VOICES[number % len(VOICES)], 150, 50, 50, 100, 0, CARRIER[language].format(form)
            )
            samples = module.tidy(engine.speak(language, voicing), engine.rate, 40)
            spoken.append((form, samples.astype(np.float32) / 32768))
    report: dict[str, Any] = {"language": language, "names": len(names), "forms": len(spoken)}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UYIR_WORDS"] = folder
        file = Path(folder) / "names.txt"
        file.write_text("".join(name + "\n" for name in names), encoding="utf-8")
        plain = load(arguments.model)
        report["recall"] = recall(plain, language, spoken)
        report["wer_elsewhere"] = other_wer(plain, language, arguments.manifest)
        hot = load(arguments.model, hotwords=file, hotword_gain=arguments.gain)
        report["recall_hotwords"] = recall(hot, language, spoken)
        report["wer_elsewhere_hotwords"] = other_wer(hot, language, arguments.manifest)
        begin = time.perf_counter()
        classes = added.Classes(language)
        words = [classes.choose(name, "name") for name in names]
        added.write_words(added.word_folder(plain.folder.name) / f"{language}.tsv", words)
        with_words = load(arguments.model)
        with_words.language(language)
        report["seconds_to_add_and_load"] = round(time.perf_counter() - begin, 1)
        report["classes"] = sorted({word.class_name for word in words})
        report["recall_added"] = recall(with_words, language, spoken)
        report["wer_elsewhere_added"] = other_wer(with_words, language, arguments.manifest)
    print(json.dumps(report, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
