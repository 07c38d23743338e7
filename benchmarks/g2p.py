"""Phone error rate of the rule G2P beside Epitran's and espeak-ng's, on the same words and fold.

    python benchmarks/g2p.py --language ta --data wikipron_ta_broad_dev.tsv [--errors 50] [--alone]

The data is WikiPron's format: word, tab, IPA segments divided by spaces; a word may stand on several
lines, and then its nearest pronunciation counts. Everything is folded by ``lexicon/fold.tsv``. Our
figure is that of the canonical pronunciation alone; "best variant" takes the nearest of our variants
and is no fair comparison, only the room that the variants give.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional

import click

from uyir.errors import DataError, UyirError
from uyir.lexicon.fold import Fold, load_fold
from uyir.lexicon.g2p import load_g2p

EPITRAN = {"ta": "tam-Taml", "kn": "kan-Knda"}
Folded = tuple[str, ...]


def read_wikipron(path: Path) -> dict[str, list[str]]:
    words: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        cells = line.split("\t")
        if len(cells) != 2 or not cells[1].split():
            raise DataError(f"want word, tab, IPA; got {line!r}", path, number)
        words.setdefault(cells[0], []).append(cells[1].replace(" ", ""))
    return words


def distance(ref: Sequence[str], hyp: Sequence[str]) -> int:
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, start=1):
        last, row[0] = row[0], i
        for j, h in enumerate(hyp, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (r != h))
    return row[-1]


def score(
    refs: dict[str, list[Folded]], hyps: dict[str, list[Folded]]
) -> tuple[int, int, dict[str, tuple[Folded, Folded, int]]]:
    """Errors, reference phones, and by word its nearest reference and hypothesis."""
    errors = total = 0
    nearest = {}
    for word, mine in refs.items():
        options = [(distance(r, h), n, r, h) for n, r in enumerate(mine) for h in hyps[word]]
        count, _, ref, hyp = min(options, key=lambda option: option[:2])
        errors += count
        total += len(ref)
        nearest[word] = (ref, hyp, count)
    return errors, total, nearest


def epitran_reader(language: str) -> Optional[Callable[[str], str]]:
    try:
        import epitran
    except ImportError:
        return None
    return epitran.Epitran(EPITRAN[language]).transliterate  # type: ignore[no-any-return]


def espeak(words: Sequence[str], language: str) -> Optional[list[str]]:
    """espeak-ng's IPA of each word; None where it is not installed."""
    if shutil.which("espeak-ng") is None:
        return None
    command = ["espeak-ng", "-q", "--ipa", "-v", language]
    out = []
    for word in words:
        run = subprocess.run([*command, word], capture_output=True, text=True, check=True)
        out.append("".join(run.stdout.split()))
    return out


def systems(
    language: str, words: Sequence[str], peers: bool = True
) -> tuple[dict[str, dict[str, list[Folded]]], list[str]]:
    """Folded pronunciations by system and word, and what was left out or refused."""
    fold: Fold = load_fold(language)
    g2p = load_g2p(language)
    best: dict[str, list[Folded]] = {}
    every: dict[str, list[Folded]] = {}
    notes = []
    for word in words:
        try:
            every[word] = [fold(p.ipa) for p in g2p.pronounce(word)]
        except UyirError as error:
            notes.append(f"counted as wholly wrong: {error}")
            every[word] = [()]
        best[word] = every[word][:1]
    made = {"uyir": best, "uyir best variant": every}
    if not peers:
        return made, notes
    read = epitran_reader(language)
    if read is None:
        notes.append("epitran is not installed: left out")
    else:
        made["epitran"] = {word: [fold(read(word))] for word in words}
    spoken = espeak(words, language)
    if spoken is None:
        notes.append("espeak-ng is not installed: left out")
    else:
        made["espeak-ng"] = {word: [fold(ipa)] for word, ipa in zip(words, spoken)}
    return made, notes


def folded_references(language: str, data: Path) -> dict[str, list[Folded]]:
    fold = load_fold(language)
    return {w: [fold(ipa) for ipa in ipas] for w, ipas in read_wikipron(data).items()}


def rates(language: str, data: Path, peers: bool = True) -> dict[str, dict[str, float]]:
    """Phone error rate, share of wrong words, and errors, by system."""
    refs = folded_references(language, data)
    made, notes = systems(language, list(refs), peers)
    for note in notes:
        click.echo(note, err=True)
    report = {}
    for name, hyps in made.items():
        wrong, total, nearest = score(refs, hyps)
        whole = sum(count > 0 for _, _, count in nearest.values())
        report[name] = {"per": wrong / total, "words": whole / len(refs), "errors": wrong}
    return report


@click.command()
@click.option("--language", required=True, type=click.Choice(sorted(EPITRAN)))
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--errors", default=0, help="Print so many of our errors, and the commonest.")
@click.option("--alone", is_flag=True, help="Leave the other programs out.")
@click.option("--json", "as_json", is_flag=True)
def main(language: str, data: Path, errors: int, alone: bool, as_json: bool) -> None:
    """Measure the rules against a WikiPron file, beside Epitran and espeak-ng."""
    try:
        report = rates(language, data, peers=not alone)
    except UyirError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"data": str(data), "systems": report}))
    else:
        for name, row in report.items():
            click.echo(f"{data.stem}\t{name}\tPER {row['per']:.4f}\twords {row['words']:.4f}")
    if errors:
        refs = folded_references(language, data)
        made, _ = systems(language, list(refs), peers=False)
        wrong = [(w, *n) for w, n in score(refs, made["uyir"])[2].items() if n[2]]
        pairs: Counter[str] = Counter()
        for word, ref, hyp, count in wrong[:errors]:
            click.echo(f"{word}\t{count}\tref {' '.join(ref)}\thyp {' '.join(hyp)}")
        for _, ref, hyp, _ in wrong:
            pairs.update(_confusions(ref, hyp))
        for pair, count in pairs.most_common(30):
            click.echo(f"{count:5} {pair}", err=True)


def _confusions(ref: Folded, hyp: Folded) -> list[str]:
    from difflib import SequenceMatcher

    return [
        f"{' '.join(ref[a:b]) or '-'} -> {' '.join(hyp[c:d]) or '-'}"
        for op, a, b, c, d in SequenceMatcher(None, ref, hyp, autojunk=False).get_opcodes()
        if op != "equal"
    ]


if __name__ == "__main__":
    main()
