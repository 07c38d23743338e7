"""Speak sentences with recorded diphones: voices of Festival, from Debian.

espeak-ng computes its sounds; these were spoken once, by people. festvox-te-nsk is a man of South India, and says all
of both languages. The other voices speak Italian, Czech and Finnish and lack retroflexes and aspirates: they get short runs of those
words that they can say. Phones are ours (`uyir.lexicon`), said with durations and a melody drawn from the seed and
the sentence's id, and resampled, so that other lengths of vocal tract are heard too. Output is what `synthesise.py`
writes: 16 kHz shards and a training manifest.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Optional

import numpy as np
import soundfile
import soxr
from spoken import PAUSE, say
from synthesise import RATE, Failure, Sentence, read_sentences, shard_arguments, write_manifest

from uyir.lexicon.g2p import load_g2p

VOICES = Path("/usr/share/festival/voices")

# Phones in a voice's sounds: "phone=sounds", sounds joined by "+" follow one another, choices after "|"
# are taken where a pair of the first was not recorded, and those after "/" are as good as each other: final
# உ is said between u and i, in every degree. A geminate is the single phone, held longer.
_INDIAN = """
a=a aa=aa i=ih ii=iy u=uh uu=uw e=eh ee=ee o=oh oo=oo eu=uh/@/ih/eh/ee/a ai=ay au=aw ae=ee
k=k g=g kh=kh|k gh=gh|g ng=n c=ch j=j ch=ch jh=j ny=n tx=T dx=D txh=td|T dxh=D nx=N
t=th d=dh th=tth|th dh=ddh|dh n=n p=p b=b ph=p bh=bh|b m=m tq=T dq=D y=y r=r rx=R|r
l=l lx=L zx=zh|L v=v s=s sh=sh sx=sh h=h f=f|p z=j
"""
_ITALIAN = """
a=a aa=a1 i=i ii=i1 u=u uu=u1 e=e ee=e1 o=o oo=o1 eu=u/i/e ai=a+j au=a+w ae=E1
k=k g=g ng=ng|n c=tS j=dZ ny=J|n t=t d=d n=n p=p b=b m=m y=j r=r rx=r l=l v=v s=s sh=S sx=S f=f z=z
"""
_CZECH = """
a=a aa=a: i=i ii=i: u=u uu=u: e=e ee=e: o=o oo=o: eu=u/i/e ai=a+j au=a+u ae=e:
k=k g=g ng=n*|n c=c~ ny=n~|n t=t d=d n=n p=p b=b m=m y=j r=r rx=r l=l v=v s=s sh=s~ sx=s~ h=h f=f z=z
"""
_FINNISH = """
a=a aa=a: i=i ii=i: u=u uu=u: e=e ee=e: o=o oo=o: eu=u/i/7 ai=a+i au=a+u
k=k g=g ng=N|n t=t d=d n=n p=p b=b m=m y=j r=r rx=r l=l v=v s=s h=h f=f
"""


@dataclass(frozen=True)
class Voice:
    """A voice of Festival: its command, its file of diphones, its sounds, its silence, its pitch (Hz)."""

    command: str
    group: str
    sounds: str
    silence: str
    pitch: tuple[float, float]
    whole: bool = False  # says every phone of both languages


KNOWN = {
    "nsk": Voice(
        "voice_telugu_NSK_diphone",
        "telugu/telugu_NSK_diphone/group/NSKlpc.group",
        _INDIAN,
        "pau",
        (75, 190),
        whole=True,
    ),
    "lp": Voice(
        "voice_lp_diphone", "italian/lp_diphone/group/lp_diphone.group", _ITALIAN, "#", (150, 240)
    ),
    "pc": Voice(
        "voice_pc_diphone", "italian/pc_diphone/group/pc_diphone.group", _ITALIAN, "#", (80, 150)
    ),
    "dita": Voice("voice_czech_dita", "czech/czech_dita/group/dita.group", _CZECH, "#", (160, 250)),
    "lj": Voice(
        "voice_suo_fi_lj_diphone",
        "finnish/suo_fi_lj_diphone/group/ljlpc.group",
        _FINNISH,
        "#",
        (150, 240),
    ),
    "krb": Voice("voice_czech_krb", "czech/czech_krb/group/krb.group", _CZECH, "#", (180, 280)),
    "ph": Voice("voice_czech_ph", "czech/czech_ph/group/ph.group", _CZECH, "#", (80, 150)),
    "mv": Voice(
        "voice_hy_fi_mv_diphone",
        "finnish/hy_fi_mv_diphone/group/mvlpc.group",
        _FINNISH,
        "#",
        (80, 150),
    ),
}

#: Length of a sound, s, at a plain rate, and what a geminate adds.
SHORT, LONG, CONSONANT, GEMINATE = 0.075, 0.145, 0.075, 0.095
_LONG_VOWELS = ("aa", "ii", "uu", "ee", "oo", "ai", "au", "ae")
_SHORT_VOWELS = ("a", "i", "u", "e", "o", "eu")


@dataclass(frozen=True)
class Inventory:
    """What a voice can say: for each phone its choices of sounds, and the pairs that were recorded."""

    voice: Voice
    choices: dict[str, list[tuple[str, ...]]]
    free: frozenset[str]  # phones whose choices are as good as each other
    pairs: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, voice: Voice) -> Inventory:
        path = VOICES / voice.group
        try:
            head = path.read_bytes()[:400_000]
        except OSError as error:
            raise Failure(f"{path}: {error}; install Festival's voice from Debian") from None
        pairs = re.findall(rb"^([^\s-]+)-([^\s-]+) ", head, re.MULTILINE)
        choices = {}
        free: set[str] = set()
        for item in voice.sounds.split():
            phone, _, said = item.partition("=")
            ways = re.split(r"[|/]", said)
            choices[phone] = [tuple(way.split("+")) for way in ways]
            if "/" in said:
                free.add(phone)
        recorded = frozenset(
            (left.decode("latin1"), right.decode("latin1")) for left, right in pairs
        )
        return cls(voice, choices, frozenset(free), recorded)

    def single(self, phone: str) -> Optional[tuple[str, bool]]:
        """The phone without its length, and whether it is a geminate; None if it cannot be said."""
        if phone in self.choices:
            return phone, False
        # nng, ttx, ssh: the first letter is written twice.
        if phone[:1] == phone[1:2] and phone[1:] in self.choices:
            return phone[1:], True
        return None

    def sounds_of(
        self, phones: Iterable[str], rng: random.Random
    ) -> Optional[list[tuple[str, float]]]:
        """Sounds with their lengths (s), or None where a phone or a pair of sounds is missing."""
        silence = self.voice.silence
        # The best choices that can be said one after the other, by the last sound.
        ways: dict[str, tuple[int, list[tuple[str, float]]]] = {silence: (0, [])}
        steps: list[tuple[list[tuple[str, ...]], float]] = []
        for phone in phones:
            if phone == PAUSE:
                steps.append(([(silence,)], rng.choice((0.06, 0.12, 0.25, 0.5))))
                continue
            found = self.single(phone)
            if found is None:
                return None
            base, geminate = found
            length = LONG if base in _LONG_VOWELS else SHORT if base in _SHORT_VOWELS else CONSONANT
            choices = self.choices[base]
            if base in self.free:
                choices = rng.sample(choices, len(choices))
            steps.append((choices, length + (GEMINATE if geminate else 0.0)))
        steps.append(([(silence,)], 0.12))
        for choices, length in steps:
            following: dict[str, tuple[int, list[tuple[str, float]]]] = {}
            for rank, names in enumerate(choices):
                if any(pair not in self.pairs for pair in zip(names, names[1:])):
                    continue
                before = [way for last, way in ways.items() if (last, names[0]) in self.pairs]
                if before:
                    cost, said = min(before, key=lambda way: way[0])
                    timed = [(name, length / len(names)) for name in names]
                    following[names[-1]] = (cost + rank, said + timed)
            ways = following
        return ways[silence][1] if ways else None


def scheme(
    inventory: Inventory, sounds: list[tuple[str, float]], wave: Path, rng: random.Random
) -> str:
    """A line of Festival's Scheme that says `sounds` into `wave`: rate, melody and unevenness by `rng`."""
    voice = inventory.voice
    pace = rng.uniform(0.7, 1.4)
    pitch = voice.pitch[0] * (voice.pitch[1] / voice.pitch[0]) ** rng.random()
    uneven = rng.uniform(0.05, 0.35)
    span = rng.uniform(0.05, 0.25)
    vowels = {
        name
        for phone in (*_LONG_VOWELS, *_SHORT_VOWELS)
        for way in inventory.choices.get(phone, [])
        for name in way
    }
    items = [f"({voice.silence} {rng.choice((0.02, 0.08, 0.15)):.2f})"]
    for place, (name, length) in enumerate(sounds[:-1]):
        seconds = max(0.03, length * pace * rng.uniform(1 - uneven, 1 + uneven))
        melody = pitch * (1 + span * (0.5 - place / len(sounds)) + rng.uniform(-0.04, 0.04))
        target = f" ({seconds / 2:.3f} {melody:.0f})" if name in vowels else ""
        items.append(f"({name} {seconds:.3f}{target})")
    items.append(f"({voice.silence} {rng.choice((0.02, 0.08, 0.15)):.2f})")
    return (
        f"(set! u (utt.synth (Utterance Segments ({' '.join(items)}))))"
        f'(utt.save.wave u "{wave}" (quote riff))'
    )


@lru_cache(maxsize=1 << 17)
def _phones(word: str, language: str) -> tuple[str, ...]:
    return load_g2p(language).pronounce(word, variants=False)[0].phones


def spoken(
    inventory: Inventory, sentence: Sentence, rng: random.Random
) -> Optional[list[tuple[str, float]]]:
    """Sounds of a sentence as one speaker may say it, or as it is written where the voice cannot say that."""
    words = [_phones(word, sentence.language) for word in sentence.text.split()]
    if " ".join(phone for word in words for phone in word) != sentence.phones:
        words = [tuple(sentence.phones.split())]
    for degree in (rng.random(), 0.3 * rng.random(), 0.0):
        sounds = say(words, sentence.language, rng, degree, pauses=rng.choice((0.0, 0.04, 0.15)))
        found = inventory.sounds_of(sounds, rng)
        if found is not None:
            return found
    return None


def speak_shard(inventory: Inventory, sentences: list[Sentence], shard: Path, seed: str) -> None:
    """Speak one shard; what the voice cannot say is left out."""
    name = shard.name.partition("-")[0]
    said: list[tuple[Sentence, Path, float]] = []
    lines = ["(Parameter.set 'Int_Method 'Simple)", f"({inventory.voice.command})"]
    with tempfile.TemporaryDirectory() as folder:
        for number, sentence in enumerate(sentences):
            rng = random.Random(f"{seed}/{name}/{sentence.id}")
            sounds = spoken(inventory, sentence, rng)
            if sounds is not None:
                wave = Path(folder) / f"{number}.wav"
                lines.append(scheme(inventory, sounds, wave, rng))
                said.append((sentence, wave, rng.uniform(0.8, 1.32)))
        script = Path(folder) / "say.scm"
        script.write_text("\n".join(lines) + "\n", encoding="utf-8")
        result = subprocess.run(
            ["festival", "-b", str(script)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        silent = sum(not wave.exists() for _, wave, _ in said)
        if silent:
            reason = " ".join(result.stderr.decode("utf-8", "replace").split())[:300]
            print(f"{shard}: festival left out {silent} of {len(said)}: {reason}", file=sys.stderr)
        offset, index = 0, []
        with shard.with_suffix(".part").open("wb") as file:
            for sentence, wave, tract in said:
                if not wave.exists():
                    continue
                samples, rate = soundfile.read(wave, dtype="float32")
                # Played faster or slower: a shorter or longer vocal tract, and another pitch.
                samples = soxr.resample(samples, rate * tract, RATE)
                samples *= 0.7 / max(1e-3, float(np.abs(samples).max()))
                file.write((samples * 32767).astype("<i2").tobytes())
                cells = (
                    f"{sentence.id}-{seed}-{name}",
                    f"{shard.name}@{offset}+{len(samples)}",
                    f"{len(samples) / RATE:.3f}",
                    sentence.language,
                    sentence.text,
                    sentence.phones,
                )
                index.append("\t".join(cells))
                offset += len(samples)
    os.replace(shard.with_suffix(".part"), shard)
    part = shard.with_suffix(".tsv.part")
    part.write_text("".join(line + "\n" for line in index), encoding="utf-8")
    os.replace(part, shard.with_suffix(".tsv"))  # last: its presence says: done


def sayable(
    sentences: list[Sentence], inventory: Inventory, count: int, seed: str
) -> Iterator[Sentence]:
    """`count` runs of 1 to 5 words that a voice can say, drawn from the sentences' words."""
    rng = random.Random(f"{seed}/{inventory.voice.command}")
    words: dict[str, dict[str, str]] = {}
    for language in sorted({sentence.language for sentence in sentences}):
        g2p = load_g2p(language)
        found: dict[str, str] = {}
        texts = [sentence.text for sentence in sentences if sentence.language == language]
        for word in dict.fromkeys(word for text in texts[:1500] for word in text.split()):
            phones = g2p.pronounce(word, variants=False)[0].phones
            if inventory.sounds_of(phones, rng) is not None:
                found[word] = " ".join(phones)
        words[language] = found
    lists = {language: sorted(found) for language, found in words.items() if found}
    for number in range(count):
        language = rng.choice(sorted(lists))
        chosen = rng.choices(lists[language], k=rng.choice((1, 1, 1, 2, 3, 4, 5)))
        spoken = " ".join(words[language][word] for word in chosen)
        yield Sentence(f"{language}-run{number}", language, " ".join(chosen), spoken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shard_arguments(parser)
    parser.add_argument(
        "--voices", default=",".join(KNOWN), help=f"by commas; there are {', '.join(KNOWN)}"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=4000,
        help="utterances a voice; half as many runs of words more where it says whole sentences",
    )
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        names = [name for name in arguments.voices.split(",") if name]
        for name in names:
            if name not in KNOWN:
                raise Failure(f"no voice {name!r}; there are {', '.join(KNOWN)}")
        sentences = list(read_sentences(arguments.sentences))
        random.Random(arguments.seed).shuffle(sentences)
        tasks = []
        for name in names:
            inventory = Inventory.of(KNOWN[name])
            runs = arguments.limit // 2 if inventory.voice.whole else arguments.limit
            chosen = list(sayable(sentences, inventory, runs, str(arguments.seed)))
            if inventory.voice.whole:
                chosen += sentences[: arguments.limit]
            for number, start in enumerate(range(0, len(chosen), arguments.shard)):
                shard = out / f"{name}-{number:05d}.i16"
                tasks.append((inventory, chosen[start : start + arguments.shard], shard))

        def speak(task: tuple[Inventory, list[Sentence], Path]) -> None:
            inventory, chosen, shard = task
            late = arguments.stop_after and time.monotonic() - began > arguments.stop_after
            if not late and not shard.with_suffix(".tsv").exists():
                speak_shard(inventory, chosen, shard, str(arguments.seed))

        # In no order of voices: stopped early, every voice has had its share.
        random.Random(arguments.seed).shuffle(tasks)
        with ThreadPoolExecutor(arguments.workers) as pool:
            list(pool.map(speak, tasks))
    except Failure as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    shards = sorted(task[2] for task in tasks)
    write_manifest(out, [shard for shard in shards if shard.with_suffix(".tsv").exists()])
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
