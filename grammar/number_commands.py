"""The command `uyir number`."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Optional

import click

from uyir.errors import DataError, ScriptError, UyirError
from uyir.grammar.commands import json_option, language_option
from uyir.grammar.numbers import NumberGrammar, Value
from uyir.grammar.text import read_lines
from uyir.grammar.written import WrittenGrammar


def _items(items: tuple[str, ...]) -> list[str]:
    """Arguments are items; one that names a file, ``-`` or none at all means lines of text."""
    if items in ((), ("-",)) or (len(items) == 1 and Path(items[0]).is_file()):
        path = items[0] if items else "-"
        return [line for line in (raw.strip() for raw in read_lines(path)) if line]
    return list(items)


def _shown(value: Value) -> object:
    """A value for JSON: an integer, or a number with a point where that is exact."""
    if isinstance(value, Fraction):
        return float(value)
    return value


def _written(language: str) -> Optional[WrittenGrammar]:
    """Money, shares and times of day; None for a language without their tables."""
    try:
        return WrittenGrammar.load(language)
    except DataError:
        return None


def _to_words(
    numbers: NumberGrammar, written: Optional[WrittenGrammar], item: str
) -> dict[str, object]:
    words = (written or numbers).read(item)
    readings = numbers.readings(words)
    value = readings[0].value if readings else None
    return {"item": item, "to": "words", "value": _shown(value) if value is not None else None,
            "text": words}  # fmt: skip


def _to_digits(
    numbers: NumberGrammar, written: Optional[WrittenGrammar], item: str
) -> dict[str, object]:
    readings = numbers.readings(item)
    if not readings:
        spans = written.spans(item.split()) if written is not None else []
        if len(spans) == 1 and (spans[0].start, spans[0].end) == (0, len(item.split())):
            return {"item": item, "to": "digits", "value": None, "text": spans[0].text}
        raise ScriptError(f"{item!r} is no number in words of {numbers.language!r}")
    best = readings[0]
    return {
        "item": item,
        "to": "digits",
        "value": _shown(best.value),
        "text": best.text,
        "digits": best.digits,
        "ending": best.ending,
        "readings": [
            {"text": r.text, "value": _shown(r.value), "cost": round(r.cost, 4)} for r in readings
        ],
    }


@click.command()
@click.argument("items", metavar="[ITEM...|FILE|-]", nargs=-1)
@language_option
@json_option
@click.option(
    "--to",
    "target",
    type=click.Choice(["auto", "words", "digits", "text"]),
    default="auto",
    show_default=True,
    help="auto: the other form of each item; text: number phrases of running text in digits.",
)
@click.option("--minimum", type=int, default=0, help="With --to text: leave smaller numbers alone.")
def number(items: tuple[str, ...], language: str, as_json: bool, target: str, minimum: int) -> None:
    """Numbers in digits to words (25-க்கு → இருபத்தைந்துக்கு) and words to digits.

    So are money, shares and times of day: ₹100 (நூறு ரூபாய்), 50%, 5:30.

    An item is an argument, or a line of FILE or `-`. What is no number is reported on stderr and
    costs exit code 1; the rest is done.
    """
    if minimum and target != "text":
        raise UyirError("--minimum needs --to text")
    numbers, written = NumberGrammar.load(language), _written(language)
    failures = 0
    for line, item in enumerate(_items(items), start=1):
        try:
            if target == "text":
                result = _rewrite(numbers, item, minimum)
            elif target == "words" or (target == "auto" and any(c.isnumeric() for c in item)):
                result = _to_words(numbers, written, item)
            else:
                result = _to_digits(numbers, written, item)
        except ScriptError as error:
            failures += 1
            click.echo(f"line {line}: {error}", err=True)
            continue
        click.echo(json.dumps(result, ensure_ascii=False) if as_json else str(result["text"]))
    if failures:
        sys.exit(1)


def _rewrite(numbers: NumberGrammar, item: str, minimum: int) -> dict[str, object]:
    words = item.split()
    spans = numbers.written(words, minimum)
    return {
        "item": item,
        "to": "text",
        "text": " ".join(numbers.write(words, minimum)),
        "spans": [
            {"start": s.start, "end": s.end, "text": s.text, "value": _shown(s.reading.value)}
            for s in spans
        ],
    }
