"""What `uyir words add` and hotwords do for rare names, in inflected forms.

    python benchmarks/added_words.py --language kn [--model base] [--gain 6] [--manifest MANIFEST.tsv]

100 made-up names, each in three cases, in a carrier sentence, spoken by espeak-ng in the reserved voices (espeak-ng
and its library are needed). Recall: how many of the forms stand in the transcripts. Half of the names are hotwords;
all are added by the command ``uyir words add``, a process of its own, which is timed, as is the next start of a recogniser;
``recall_of_ten`` are the 30 forms of every eleventh name, before and after. Then ``uyir words remove --all``: ``reverted`` says
whether every transcript is as it was. ``--manifest`` (of `benchmarks/spoken_set.py`; its first ``--limit`` utterances by id) is
other speech, on which the word error rate should not rise. JSON on stdout.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np

from uyir.asr.data import SampleReader, read_manifest
from uyir.decode.score import score_pairs
from uyir.decode.transcribe import Recogniser, load
from uyir.grammar.join import join
from uyir.lexicon.symbols import tokens_table

VOICES = ("klatt5", "Andrea", "Michael", "grandpa", "f4", "Diogo")
CARRIER = {"ta": "நேற்று {} வந்து சொன்னார்கள்", "kn": "ನಿನ್ನೆ {} ಎಂದು ಹೇಳಿದರು"}
#: First and second halves of names that nobody has, and their endings in three cases.
HALVES = {
    "ta": (
        ("கொற்ற", "பைந்த", "நெடுமா", "செம்பி", "வேலூ", "திருமா", "மணிவா", "கதிரே", "பூம்பொ", "ஆதிசே"),
        (
            *("யரசன்", "மிழவன்", "றத்தன்", "னவேலன்", "ழிலன்"),
            *("மாறையன்", "முருவன்", "வன்னியன்", "பாண்டவன்", "சேகரன்"),
        ),
    ),
    "kn": (
        ("ಚಂದ್ರ", "ರತ್ನ", "ವೀರ", "ಶಿವ", "ಹೊನ್ನ", "ಮಲ್ಲ", "ಗಂಗ", "ಧರ್ಮ", "ಸೋಮ", "ಕೆಂಪ"),
        (
            *("ಭೂಷಪ್ಪ", "ನಾಯಪ್ಪ", "ಗೌಡಪ್ಪ", "ಸೆಟ್ಟಪ್ಪ", "ರಾಯಪ್ಪ"),
            *("ತಿಮ್ಮಪ್ಪ", "ಲಿಂಗಪ್ಪ", "ಮೂರ್ತಪ್ಪ", "ನಂಜಪ್ಪ", "ಕಾಳಪ್ಪ"),
        ),
    ),
}
ENDINGS = {"ta": ("னை", "னுக்கு", "னிடம்"), "kn": ("ನನ್ನು", "ನಿಗೆ", "ನಿಂದ")}


def names_of(language: str) -> list[str]:
    first, second = HALVES[language]
    return [join([f"{a}+", f"+{b}"], language) for b in second for a in first]


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


def heard(recogniser: Recogniser, language: str, spoken: list[tuple[str, Any]]) -> list[str]:
    found = recogniser.transcribe([samples for _, samples in spoken], language)
    return [transcript.text for transcript in found]


def recall(spoken: list[tuple[str, Any]], texts: list[str]) -> float:
    right = sum(form in text.split() for (form, _), text in zip(spoken, texts))
    return round(right / len(spoken), 4)


def words_command(*arguments: str) -> tuple[float, float]:
    """Run ``uyir words``; returns its seconds of the clock and of the processor."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "uyir", "words", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(time.perf_counter() - begin, 1), round(used, 1)


def other_speech(manifest: Optional[Path], language: str, limit: int) -> list[tuple[str, Any]]:
    """(text, samples in [-1, 1]) of the first so many utterances of the language, by id."""
    if manifest is None:
        return []
    rows = read_manifest(manifest, list(tokens_table()))
    chosen = sorted((row for row in rows if row.language == language), key=lambda row: row.id)
    reader = SampleReader()
    return [(row.text, reader.read(row).astype(np.float32) / 32768) for row in chosen[:limit]]


def other_wer(
    recogniser: Recogniser, language: str, speech: list[tuple[str, Any]]
) -> Optional[float]:
    if not speech:
        return None
    texts = heard(recogniser, language, speech)
    pairs = [(text, found) for (text, _), found in zip(speech, texts)]
    return round(score_pairs(pairs, language).wer, 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language", required=True, choices=sorted(CARRIER))
    parser.add_argument("--model")
    parser.add_argument("--gain", type=float, default=6.0)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--limit", type=int, default=100, help="utterances of the manifest")
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
    other = other_speech(arguments.manifest, language, arguments.limit)
    report: dict[str, Any] = {"language": language, "names": len(names), "forms": len(spoken)}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UYIR_WORDS"] = folder
        file = Path(folder) / "names.txt"
        file.write_text("".join(name + "\n" for name in names), encoding="utf-8")
        hot_file = Path(folder) / "hot.txt"
        hot_file.write_text("".join(name + "\n" for name in names[: len(names) // 2]), "utf-8")
        half = 3 * (len(names) // 2)
        plain = load(arguments.model)
        before = heard(plain, language, spoken)
        report["recall"] = recall(spoken, before)
        report["wer_elsewhere"] = other_wer(plain, language, other)

        hot = load(arguments.model, hotwords=hot_file, hotword_gain=arguments.gain)
        report["recall_half"] = recall(spoken[:half], before[:half])
        report["recall_half_hotwords"] = recall(spoken[:half], heard(hot, language, spoken[:half]))
        report["wer_elsewhere_hotwords"] = other_wer(hot, language, other)

        model = ["--language", language, *(["--model", arguments.model] if arguments.model else [])]
        report["seconds_to_add_clock_processor"] = words_command("add", str(file), *model)
        begin = time.perf_counter()
        with_words = load(arguments.model)
        with_words.language(language)
        report["seconds_to_load"] = round(time.perf_counter() - begin, 1)
        after = heard(with_words, language, spoken)
        report["recall_added"] = recall(spoken, after)
        ten = [3 * name + form for name in range(0, len(names), 11) for form in range(3)]
        report["recall_of_ten"] = [
            recall([spoken[i] for i in ten], [texts[i] for i in ten]) for texts in (before, after)
        ]
        report["wer_elsewhere_added"] = other_wer(with_words, language, other)
        words_command("remove", "--all", *model)
        report["reverted"] = heard(load(arguments.model), language, spoken) == before
    print(json.dumps(report, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
