"""Several systems on one reference: rates, what tells them apart, and tables for a paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from uyir.decode.score.counts import Interval
from uyir.decode.score.errs import utterance_line
from uyir.decode.score.report import Report
from uyir.decode.score.significance import Matched, bootstrap, mapsswe, segments, sum_by
from uyir.errors import DataError


@dataclass(frozen=True)
class Contrast:
    """A system beside the first one: the matched-pairs test (positive: this system has fewer
    errors), and the share of bootstrap draws in which it is better."""

    matched: Matched
    better: Optional[float]


@dataclass(frozen=True)
class Difference:
    """An utterance in which two systems have different numbers of errors, and their alignments."""

    id: str
    system: str
    errors_first: int
    errors: int
    first: str
    other: str


@dataclass(frozen=True)
class Comparison:
    """Reports of several systems, the first of which the others are compared with."""

    names: tuple[str, ...]
    reports: tuple[Report, ...]
    contrasts: tuple[Contrast, ...]  # of the systems after the first
    differences: tuple[Difference, ...]


def compare_reports(names: Sequence[str], reports: Sequence[Report]) -> Comparison:
    """Compare systems with the first; raises `DataError` where they are not of the same utterances."""
    base = reports[0]
    ids = [item.id for item in base.utterances]
    contrasts, differences = [], []
    for name, report in zip(names[1:], reports[1:]):
        if [item.id for item in report.utterances] != ids:
            raise DataError(
                f"{base.hyp_path} and {report.hyp_path} are not of the same utterances: "
                "compare with --missing count, --extra skip"
            )
        found: list[tuple[int, int]] = []
        for a, b in zip(base.utterances, report.utterances):
            units = len(a.row.ref)
            if len(b.row.ref) != units:
                raise DataError(f"utterance {a.id!r} has not the same reference in both")
            found += segments(units, a.row.steps, b.row.steps)
            if len(a.row.steps) != len(b.row.steps):
                differences.append(
                    Difference(
                        a.id,
                        name,
                        len(a.row.steps),
                        len(b.row.steps),
                        utterance_line(a, base.words),
                        utterance_line(b, report.words),
                    )
                )
        contrasts.append(Contrast(mapsswe(found), _better(base, report)))
    differences.sort(key=lambda d: -abs(d.errors_first - d.errors))
    return Comparison(tuple(names), tuple(reports), tuple(contrasts), tuple(differences))


def _better(base: Report, report: Report) -> Optional[float]:
    """The share of draws of speakers (or utterances) in which the second has fewer errors."""
    draws = base.options.draws
    values = np.array(
        [[len(a.row.steps), len(b.row.steps)] for a, b in zip(base.utterances, report.utterances)],
        dtype=np.int64,
    )
    if base.drawn[0] == "speaker":
        numbers: dict[str, int] = {}
        speakers = [
            numbers.setdefault(item.meta.get("speaker", ""), len(numbers))
            for item in base.utterances
        ]
        values = sum_by(np.array(speakers, dtype=np.int64), values)
    if not draws or len(values) < 2:
        return None
    sums = bootstrap(values, draws)
    return float(np.mean(sums[:, 1] < sums[:, 0]))


def to_dict(found: Comparison, top: int = 100) -> dict[str, Any]:
    """As JSON: the systems in order, each after the first with what tells it from the first."""
    systems: list[dict[str, Any]] = []
    for n, (name, report) in enumerate(zip(found.names, found.reports)):
        entry: dict[str, Any] = {"name": name, **report.normalised.to_dict()}
        if n:
            contrast = found.contrasts[n - 1]
            entry["mapsswe"] = contrast.matched.to_dict()
            entry["better"] = contrast.better
        systems.append(entry)
    return {
        "systems": systems,
        "differing": len(found.differences),
        "differences": [d.__dict__ for d in found.differences[:top]],
    }


def _rows(found: Comparison) -> Iterator[list[str]]:
    def percent(rate: float) -> str:
        return f"{100 * rate:.2f}"

    for n, (name, report) in enumerate(zip(found.names, found.reports)):
        score = report.normalised
        tolerant = percent(score.tolerant.rate) if score.tolerant is not None else ""
        p = ""
        if n:
            value = found.contrasts[n - 1].matched.p
            p = "< 0.001" if value < 0.001 else f"{value:.3f}"
        yield [
            name,
            percent(score.wer),
            _span(score.wer_interval),
            tolerant,
            percent(score.cer),
            percent(score.ser),
            str(score.words.substitutions),
            str(score.words.deletions),
            str(score.words.insertions),
            p,
        ]


def _span(interval: Optional[Interval]) -> str:
    return f"{100 * interval.low:.2f}–{100 * interval.high:.2f}" if interval else ""


_HEAD = ("System", "WER %", "95 %", "WER tol. %", "CER %", "SER %", "Sub", "Del", "Ins", "p")


def _caption(found: Comparison) -> str:
    report = found.reports[0]
    unit, count = report.drawn
    text = (
        f"{report.normalised.utterances} utterances, {report.normalised.words.units} words, "
        "normalised. WER tol.: differences of spacing and sandhi variants are no errors."
    )
    if report.normalised.wer_interval:
        text += f" 95 %: bootstrap over {count} {unit}s."
    if found.contrasts:
        text += f" p: matched pairs (MAPSSWE), against {found.names[0]}."
    return text


def _no_pipes(text: str) -> str:
    for char in "\\|*_`<[":
        text = text.replace(char, "\\" + char)
    return text


def markdown(found: Comparison) -> str:
    """A Markdown table; the lowest WER is bold."""
    best = min(report.normalised.wer for report in found.reports)
    lines = [
        "| " + " | ".join(_HEAD) + " |",
        "|---|" + "---:|" * (len(_HEAD) - 1),
    ]
    for row, report in zip(_rows(found), found.reports):
        row[0] = _no_pipes(row[0])
        if report.normalised.wer == best:
            row[1] = f"**{row[1]}**"
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join([*lines, "", _no_pipes(_caption(found)), ""])


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "–": "--",
}


def _escape(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)


def latex(found: Comparison) -> str:
    """A LaTeX table (package booktabs); the lowest WER is bold."""
    best = min(report.normalised.wer for report in found.reports)
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{l" + "r" * (len(_HEAD) - 1) + "}",
        r"\toprule",
        " & ".join(map(_escape, _HEAD)) + r" \\",
        r"\midrule",
    ]
    for row, report in zip(_rows(found), found.reports):
        cells = [_escape(cell) for cell in row]
        if report.normalised.wer == best:
            cells[1] = rf"\textbf{{{cells[1]}}}"
        lines.append(" & ".join(cells) + r" \\")
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{_escape(_caption(found))}}}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def difference_lines(found: Comparison) -> Iterator[str]:
    """The list of utterances in which the systems differ, as a table (TSV), most different first."""
    yield "\t".join(("id", "system", "errors_first", "errors", "first", "other"))
    for d in found.differences:
        yield "\t".join((d.id, d.system, str(d.errors_first), str(d.errors), d.first, d.other))
