"""The file of errors that icefall's recipes write (``errs-…txt``), so that their tools read ours.

A summary, every utterance with ``(ref->hyp)`` where they differ, substitutions, deletions and
insertions by count, and for each word how often it was right and wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from uyir.decode.score.report import Report, Scored


def errs_lines(report: Report) -> Iterator[str]:
    """The lines of the file, without their ends."""
    words = report.normalised.words
    yield f"%WER = {100 * words.rate:.2f}"
    yield (
        f"Errors: {words.insertions} insertions, {words.deletions} deletions, "
        f"{words.substitutions} substitutions, over {words.units} reference words "
        f"({words.hits} correct)"
    )
    yield (
        "Search below for sections starting with PER-UTT DETAILS:, SUBSTITUTIONS:, DELETIONS:, "
        "INSERTIONS:, PER-WORD STATS:"
    )
    yield ""
    yield "PER-UTT DETAILS: corr or (ref->hyp)  "
    for item in report.utterances:
        yield f"{item.id}:\t{utterance_line(item, report.words)}"
    yield ""
    yield "SUBSTITUTIONS: count ref -> hyp"
    substitutions = sorted((-count, ref, hyp) for (ref, hyp), count in report.substitutions.items())
    yield from (f"{-count}   {ref} -> {hyp}" for count, ref, hyp in substitutions)
    for title, counts in (("DELETIONS", report.deletions), ("INSERTIONS", report.insertions)):
        yield ""
        yield f"{title}: count {'ref' if title == 'DELETIONS' else 'hyp'}"
        ordered = sorted(counts.items(), key=lambda e: (-e[1], e[0]))
        yield from (f"{count}   {word}" for word, count in ordered)
    yield ""
    yield "PER-WORD STATS: word  corr tot_errs count_in_ref count_in_hyp"
    yield from _word_lines(report)


def utterance_line(item: Scored, words: list[str]) -> str:
    """An utterance, ``(ref->hyp)`` where it is wrong; ``*`` is nothing."""
    ref, hyp = item.row.ref, item.row.hyp
    out: list[str] = []
    at = 0
    shift = 0
    for i, j in item.row.steps:
        position = i if i is not None else (j or 0) - shift
        out += [words[n] for n in ref[at:position]]
        left = words[ref[i]] if i is not None else "*"
        right = words[hyp[j]] if j is not None else "*"
        out.append(f"({left}->{right})")
        at = position + (i is not None)
        shift += (i is None) - (j is None)
    out += [words[n] for n in ref[at:]]
    return " ".join(out)


def _word_lines(report: Report) -> Iterator[str]:
    words = report.words
    in_ref: Counter[int] = Counter()
    in_hyp: Counter[int] = Counter()
    for item in report.utterances:
        in_ref.update(item.row.ref)
        in_hyp.update(item.row.hyp)
    wrong: Counter[str] = Counter()
    for (ref, hyp), count in report.substitutions.items():
        wrong[ref] += count
        wrong[hyp] += count
    wrong.update(report.deletions)
    wrong.update(report.insertions)
    missed: Counter[str] = Counter(report.deletions)
    for (ref, _), count in report.substitutions.items():
        missed[ref] += count
    rows = [
        (-wrong[words[n]], words[n], in_ref[n] - missed[words[n]], in_ref[n], in_hyp[n])
        for n in {*in_ref, *in_hyp}
    ]
    rows.sort()
    for errors, word, right, ref_count, hyp_count in rows:
        yield f"{word}   {right} {-errors} {ref_count} {hyp_count}"
