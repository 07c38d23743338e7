"""The report as tables for a terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Optional

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from uyir.decode.score.counts import Counts, Interval, Score
from uyir.decode.score.report import Report
from uyir.grammar.script import NORMALISER_VERSION

#: Rows of a list of words, or of a table by a column with many values.
_MOST_ROWS = 10
_RULES = {"count": "counted", "skip": "not counted", "error": ""}


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _interval(interval: Optional[Interval]) -> str:
    return f"{interval.low:.4f}–{interval.high:.4f}" if interval else ""


def _cells(counts: Counts) -> list[str]:
    numbers = (counts.units, counts.substitutions, counts.deletions, counts.insertions)
    return [f"{counts.rate:.4f}", *map(str, numbers)]


def _summary(report: Report) -> Iterable[Table]:
    for title, score in (
        (f"Normalised (normaliser {NORMALISER_VERSION})", report.normalised),
        ("Raw", report.raw),
    ):
        columns = ("rate", "units", "sub", "del", "ins", "95 %")
        table = _table(title, "", columns if score.wer_interval else columns[:-1])
        rows = [("WER", score.words, score.wer_interval)]
        if score.tolerant is not None:
            rows.append(("WER, spacing and sandhi free", score.tolerant, None))
        rows.append(("CER, code points", score.letters, score.cer_interval))
        rows.append(("CER, graphemes", score.graphemes, None))
        for name, counts, interval in rows:
            table.add_row(name, *_cells(counts), *([_interval(interval)] if columns else []))
        table.add_row("SER", f"{score.ser:.4f}", str(score.utterances))
        table.add_row("MER", f"{score.words.mer:.4f}")
        table.add_row("WIL", f"{score.words.wil:.4f}")
        yield table


def _by_counts(title: str, first: str, counts: Mapping[str, Counts]) -> Table:
    table = _table(title, first, ("WER", "words", "sub", "del", "ins"))
    for name, count in counts.items():
        table.add_row(Text(name), *_cells(count))
    return table


def _by_group(column: str, groups: Sequence[tuple[str, Score]]) -> Table:
    shown = list(groups)
    title = f"By {column}"
    if len(shown) > 2 * _MOST_ROWS:
        shown = sorted(shown, key=lambda group: -group[1].wer)[:_MOST_ROWS]
        title += f" ({len(groups)} in all; highest WER)"
    table = _table(title, column, ("WER", "CER", "utterances", "words", "errors"))
    for name, score in shown:
        table.add_row(
            Text(name),
            f"{score.wer:.4f}",
            f"{score.cer:.4f}",
            str(score.utterances),
            str(score.words.units),
            str(score.words.errors),
        )
    return table


def _lists(report: Report) -> Iterable[Table]:
    if report.substitutions or report.deletions or report.insertions:
        table = _table("Confused most often", "reference", ("hypothesis", "count"))
        table.columns[1].justify = "left"
        everything = [(a, b, n) for (a, b), n in report.substitutions.items()]
        everything += [(a, "", n) for a, n in report.deletions.items()]
        everything += [("", b, n) for b, n in report.insertions.items()]
        everything.sort(key=lambda entry: (-entry[2], entry[:2]))
        for ref, hyp, count in everything[:_MOST_ROWS]:
            table.add_row(Text(ref or "(inserted)"), Text(hyp or "(deleted)"), str(count))
        yield table
    if report.equal:
        total = sum(report.equal.values())
        table = _table(f"Taken as equal, {total} times", "reference", ("hypothesis", "by", "count"))
        table.columns[1].justify = "left"
        for item, count in sorted(report.equal.items(), key=lambda e: (-e[1], e[0]))[:_MOST_ROWS]:
            table.add_row(Text(item.ref), Text(item.hyp), item.kind, str(count))
        yield table


def describe(report: Report) -> list[str]:
    """What was compared, and which utterances only one side has, a line each."""
    options = report.options
    unit, count = report.drawn
    lines = [
        f"{report.normalised.utterances} utterances, language {report.language}, "
        f"{options.costs} costs"
    ]
    if report.normalised.wer_interval:
        lines[0] += f"; intervals by bootstrap over {count} {unit}s"
    for kind, names, rule in (
        ("missing from the hypothesis", report.missing, options.missing),
        ("extra in the hypothesis", report.extra, options.extra),
    ):
        if names:
            shown = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
            lines.append(f"{len(names)} {kind} ({_RULES[rule]}): {shown}")
    return lines


def write(report: Report, stream: IO[str]) -> None:
    """Write the tables; as wide as they are where the stream is no terminal."""
    console = Console(
        file=stream,
        width=None if stream.isatty() else 200,
        highlight=False,
        emoji=False,
        markup=False,
    )
    for line in describe(report):
        console.print(Text(line))
    tables: list[Table] = list(_summary(report))
    if report.vocabulary:
        tables.append(_by_counts("By vocabulary", "", report.vocabulary))
    if report.categories:
        tables.append(_by_counts("By category of word", "category", report.categories))
    if any(report.positions.values()):
        table = _table("Where substituted words are wrong", "part", ("count",))
        for name, number in report.positions.items():
            table.add_row(name, str(number))
        tables.append(table)
    tables += [_by_group(column, groups) for column, groups in report.groups.items()]
    tables += _lists(report)
    for table in tables:
        console.print(table)
