"""Phone error rate of the rule G2P beside Epitran's and espeak-ng's, on the same words and fold.

    python benchmarks/g2p.py --language ta --data wikipron_ta_broad_dev.tsv [--errors 50]

The data is WikiPron's format: word, tab, IPA segments divided by spaces; a word may stand on several
lines, and then its nearest pronunciation counts. Everything is folded by ``lexicon/fold.tsv``. Our
figure is that of the canonical pronunciation alone; "best variant" takes the nearest of our variants
and is no fair comparison, only the room that the variants give.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional

import click
from uyir.lexicon.fold import Fold, load_fold
from uyir.lexicon.g2p import load_g2p

from uyir.errors import DataError, UyirError

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


@click.command()
@click.option("--language", required=True, type=click.Choice(sorted(EPITRAN)))
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--errors", default=0, help="Print so many of our errors, and the commonest.")
@click.option("--json", "as_json", is_flag=True)
def main(language: str, data: Path, errors: int, as_json: bool) -> None:
    fold: Fold = load_fold(language)
    refs = {w: [fold(ipa) for ipa in ipas] for w, ipas in read_wikipron(data).items()}
    g2p = load_g2p(language)
    systems: dict[str, dict[str, list[Folded]]] = {"uyir": {}, "uyir best variant": {}}
    refused = []
    begin = time.perf_counter()
    for word in list(refs):
        try:
            made = [fold(p.ipa) for p in g2p.pronounce(word)]
        except UyirError as error:
            refused.append(str(error))
            made = [()]
        systems["uyir"][word] = made[:1]
        systems["uyir best variant"][word] = made
    seconds = time.perf_counter() - begin
    read = epitran_reader(language)
    if read is not None:
        systems["epitran"] = {word: [fold(read(word))] for word in refs}
    spoken = espeak(list(refs), language)
    if spoken is not None:
        systems["espeak-ng"] = {word: [fold(ipa)] for word, ipa in zip(refs, spoken)}
    report = {}
    for name, hyps in systems.items():
        wrong, total, nearest = score(refs, hyps)
        whole = sum(count > 0 for _, _, count in nearest.values())
        report[name] = {"per": wrong / total, "wer": whole / len(refs), "errors": wrong}
    for name in ("epitran", "espeak-ng"):
        if name not in systems:
            click.echo(f"{name} is not installed: left out", err=True)
    for line in refused:
        click.echo(f"counted as wholly wrong: {line}", err=True)
    if as_json:
        click.echo(json.dumps({"data": str(data), "words": len(refs), "systems": report}))
    else:
        click.echo(f"{data}: {len(refs)} words; ours took {seconds:.2f} s")
        for name, row in report.items():
            click.echo(f"{name:18} PER {row['per']:.4f}  words wrong {row['wer']:.4f}")
    if errors:
        _, _, nearest = score(refs, systems["uyir"])
        wrong_words = [(w, *n) for w, n in nearest.items() if n[2]]
        for word, ref, hyp, count in wrong_words[:errors]:
            click.echo(f"{word}\t{count}\tref {' '.join(ref)}\thyp {' '.join(hyp)}")
        pairs: Counter[str] = Counter()
        for _, ref, hyp, _ in wrong_words:
            pairs.update(_confusions(ref, hyp))
        for pair, count in pairs.most_common(30):
            click.echo(f"{count:5} {pair}", err=True)
    sys.exit(0)


def _confusions(ref: Folded, hyp: Folded) -> list[str]:
    from difflib import SequenceMatcher

    return [
        f"{' '.join(ref[a:b]) or '-'} -> {' '.join(hyp[c:d]) or '-'}"
        for op, a, b, c, d in SequenceMatcher(None, ref, hyp, autojunk=False).get_opcodes()
        if op != "equal"
    ]


if __name__ == "__main__":
    main()
