"""Error rates: words and letters, raw and normalised, by utterance id.

Units are aligned at unit costs (Levenshtein); the totals are those of jiwer. How a total parts into
substitutions, deletions and insertions is not unique, and kaldialign's choice is given. A letter is
counted two ways: as a code point, which is what others publish, and as a grapheme cluster (கை is one),
which is what a reader sees. Single spaces between words count as letters in both, as in jiwer.

Rates are fractions of the reference's units. An empty reference has the rate *number of errors*, as if
it had one unit (jiwer's rule): 0.0 if nothing was recognised either.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional, Union

from uyir.errors import DataError
from uyir.grammar.script import NORMALISER_VERSION, normalise, script_of

FORMATS = ("txt", "kaldi", "trn", "tsv", "json")
#: What becomes of an utterance that the hypothesis does not have.
MISSING = ("count", "skip", "error")


@dataclass(frozen=True)
class Counts:
    """Aligned units of one kind: ``units`` in the reference, and what went wrong."""

    units: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def hits(self) -> int:
        return self.units - self.substitutions - self.deletions

    @property
    def rate(self) -> float:
        """Errors a reference unit; see the module's text for an empty reference."""
        return self.errors / max(1, self.units)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.units + other.units,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True)
class Score:
    """Counts over utterances: words, code points, grapheme clusters, and utterances not all right."""

    utterances: int
    wrong: int
    words: Counts
    letters: Counts
    graphemes: Counts

    @property
    def wer(self) -> float:
        return self.words.rate

    @property
    def cer(self) -> float:
        """By code points."""
        return self.letters.rate

    @property
    def cer_graphemes(self) -> float:
        return self.graphemes.rate

    @property
    def ser(self) -> float:
        """Share of utterances with any word error."""
        return self.wrong / max(1, self.utterances)


@dataclass(frozen=True)
class Report:
    """A comparison of two files. ``missing`` and ``extra`` are ids that only the reference, only the
    hypothesis has; ``missing_rule`` says what became of the former, the latter are never counted."""

    language: str
    raw: Score
    normalised: Score
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    missing_rule: str = "count"

    def to_dict(self) -> dict[str, Any]:
        """As JSON; ``decode/README.md`` says what the keys mean."""
        return {
            "language": self.language,
            "normaliser": NORMALISER_VERSION,
            "utterances": self.normalised.utterances,
            "missing": list(self.missing),
            "extra": list(self.extra),
            "missing_rule": self.missing_rule,
            **_flat(self.normalised),
            "raw": _flat(self.raw),
        }


def _flat(score: Score) -> dict[str, Any]:
    words = score.words
    return {
        "wer": round(score.wer, 6),
        "cer": round(score.cer, 6),
        "cer_graphemes": round(score.cer_graphemes, 6),
        "ser": round(score.ser, 6),
        "words": words.units,
        "hits": words.hits,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "characters": _counts(score.letters),
        "graphemes": _counts(score.graphemes),
    }


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "units": counts.units,
        "hits": counts.hits,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
    }


def align_counts(ref: Sequence[str], hyp: Sequence[str]) -> Counts:
    """Count the errors between two sequences of units at least cost."""
    import kaldialign

    # What is equal at both ends stays aligned in some best alignment: the rest is quickly done.
    begin = _common(min(len(ref), len(hyp)), lambda n: ref[:n] == hyp[:n])
    tail = _common(min(len(ref), len(hyp)) - begin, lambda n: ref[-n:] == hyp[-n:])
    end, other = len(ref) - tail, len(hyp) - tail
    if begin in (end, other):
        return Counts(len(ref), 0, end - begin, other - begin)
    found = kaldialign.edit_distance(ref[begin:end], hyp[begin:other])
    return Counts(len(ref), found["sub"], found["del"], found["ins"])


def _common(most: int, equal: Callable[[int], bool]) -> int:
    """The greatest n up to ``most`` with equal(n), which holds for all lesser n: bisected."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        if equal(middle):
            low = middle
        else:
            most = middle - 1
    return low


def graphemes(text: str) -> list[str]:
    """A text's grapheme clusters: a character with the marks that follow it.

    >>> graphemes("கை க்ஷ")
    ['கை', ' ', 'க்', 'ஷ']
    """
    out: list[str] = []
    for word in text.split(" "):
        out.extend(_clusters(word))
        out.append(" ")
    out.pop()
    return out


# Running text repeats its words, so what is done to a word is remembered.
@lru_cache(maxsize=1 << 18)
def _clusters(word: str) -> tuple[str, ...]:
    out: list[str] = []
    for char in word:
        if out and (unicodedata.category(char)[0] == "M" or char in "\u200c\u200d"):
            out[-1] += char
        else:
            out.append(char)
    return tuple(out)


@lru_cache(maxsize=1 << 18)
def _normal(word: str, language: str) -> str:
    return normalise(word, language)


def normalise_words(text: str, language: str) -> str:
    """`grammar.script.normalise`, which never looks beyond a word, word by word."""
    return " ".join(filter(None, (_normal(word, language) for word in text.split())))


class _Tally:
    """Adds up pairs."""

    def __init__(self) -> None:
        self.utterances = self.wrong = 0
        self.kinds = [[0, 0, 0, 0] for _ in range(3)]

    def add(self, counts: Sequence[Counts]) -> None:
        self.utterances += 1
        self.wrong += counts[0].errors > 0
        for total, one in zip(self.kinds, counts):
            total[0] += one.units
            total[1] += one.substitutions
            total[2] += one.deletions
            total[3] += one.insertions

    def score(self) -> Score:
        words, letters, clusters = (Counts(*kind) for kind in self.kinds)
        return Score(self.utterances, self.wrong, words, letters, clusters)


def count_pair(ref: str, hyp: str) -> tuple[Counts, Counts, Counts]:
    """Counts by words, code points and grapheme clusters of two texts with single spaces."""
    if ref == hyp:
        return (
            Counts(len(ref.split())),
            Counts(len(ref)),
            Counts(len(graphemes(ref))),
        )
    return (
        align_counts(ref.split(), hyp.split()),
        align_counts(ref, hyp),
        align_counts(graphemes(ref), graphemes(hyp)),
    )


def score_pairs(
    pairs: Iterable[tuple[str, str]], language: str, *, normalised: bool = True
) -> Score:
    """Score (reference, hypothesis) texts; ``normalised`` applies `grammar.script.normalise` first."""
    tally = _Tally()
    for ref, hyp in pairs:
        if normalised:
            ref, hyp = normalise_words(ref, language), normalise_words(hyp, language)
        tally.add(count_pair(" ".join(ref.split()), " ".join(hyp.split())))
    return tally.score()


def compare(
    refs: Mapping[str, str], hyps: Mapping[str, str], language: str, *, missing: str = "count"
) -> Report:
    """Score texts by utterance id, raw and normalised.

    ``missing``: an utterance that ``hyps`` lacks is counted as not recognised (``count``), left out
    (``skip``), or a `DataError` (``error``). Utterances that only ``hyps`` has are listed, not counted.
    """
    if missing not in MISSING:
        raise DataError(f"missing utterances are treated by {', '.join(MISSING)}, not {missing!r}")
    lacking = tuple(name for name in refs if name not in hyps)
    extra = tuple(name for name in hyps if name not in refs)
    if missing == "error" and lacking:
        raise DataError(f"the hypothesis lacks {len(lacking)} utterances, first {lacking[0]!r}")
    raw, normalised = _Tally(), _Tally()
    for name, text in refs.items():
        if missing == "skip" and name not in hyps:
            continue
        ref, hyp = " ".join(text.split()), " ".join(hyps.get(name, "").split())
        counts = count_pair(ref, hyp)
        raw.add(counts)
        plain_ref, plain_hyp = normalise_words(ref, language), normalise_words(hyp, language)
        if (plain_ref, plain_hyp) != (ref, hyp):
            counts = count_pair(plain_ref, plain_hyp)
        normalised.add(counts)
    return Report(language, raw.score(), normalised.score(), lacking, extra, missing)


# --------------------------------------------------------------------------------------------------
# Files


@dataclass(frozen=True)
class Texts:
    """Utterances of a file by id, in its order; ``by_line``: the ids are line numbers."""

    path: str
    texts: dict[str, str] = field(default_factory=dict)
    by_line: bool = False


def read_texts(path: Union[str, Path], form: Optional[str] = None) -> Texts:
    """Read utterances from a file, a folder of `uyir transcribe`'s outputs, or ``-`` (stdin).

    ``form`` is one of `FORMATS`; None goes by the name's ending: ``.trn``, ``.tsv``, ``.json`` and
    ``.jsonl``, ``.txt`` (a line an utterance, its number the id), and none (``text``: Kaldi's, id first).
    Ids that are paths of recordings become their names without folder and ending. Raises
    `DataError` naming file and line: not UTF-8, NUL, an id twice, a line without id, no JSON of ours.
    """
    path = str(path)
    if path != "-" and Path(path).is_dir():
        return _read_folder(Path(path), form)
    if form is None:
        form = _FORM_OF.get(Path(path).suffix.lower(), "kaldi") if path != "-" else "txt"
    if form not in FORMATS:
        raise DataError(f"unknown format {form!r}; there are {', '.join(FORMATS)}")
    text = _read_text(path)
    if form == "json":
        items = list(_json_items(text, path))
    else:
        lines = [line.rstrip("\r") for line in text.split("\n")]
        if lines and not lines[-1]:
            lines.pop()
        if form == "txt":
            return Texts(path, {str(n): line for n, line in enumerate(lines, 1)}, by_line=True)
        items = list(_ITEMS[form](lines, path))
    out: dict[str, str] = {}
    for name, words, number in items:
        if name in out:
            raise DataError(f"utterance {name!r} stands twice", path, number)
        out[name] = words
    return Texts(path, out)


_FORM_OF = {
    ".txt": "txt",
    ".trn": "trn",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
}
_Item = tuple[str, str, Optional[int]]


def _read_text(path: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise DataError(error.strerror or str(error), path) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"not UTF-8: {error.reason}", path, line) from None
    if "\0" in text:
        raise DataError("a NUL in it", path, text[: text.index("\0")].count("\n") + 1)
    return text


def _kaldi_items(lines: Sequence[str], path: str) -> Iterator[_Item]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            name, _, words = line.strip().partition(" ")
            if "\t" in name:
                name, _, words = line.strip().partition("\t")
            yield name, words, number


_TRN = re.compile(r"^(.*?)\s*\(([^()\s]+)\)\s*$")


def _trn_items(lines: Sequence[str], path: str) -> Iterator[_Item]:
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith(";;"):
            match = _TRN.match(line)
            if match is None:
                raise DataError("no utterance id in brackets at its end", path, number)
            yield match.group(2), match.group(1), number


_ID_COLUMNS = ("id", "utterance", "utt", "name", "file", "path", "audio", "source")
_TEXT_COLUMNS = ("text", "sentence", "transcript", "ref", "hyp")


def _tsv_items(lines: Sequence[str], path: str) -> Iterator[_Item]:
    """With a header that names an id and a text column, or two columns: id, text."""
    first = lines[0].lower().split("\t") if lines else []
    ids = [i for i, cell in enumerate(first) if cell in _ID_COLUMNS]
    texts = [i for i, cell in enumerate(first) if cell in _TEXT_COLUMNS]
    headed = bool(ids and texts)
    at, words = (ids[0], texts[0]) if headed else (0, 1)
    for number, line in enumerate(lines, 1):
        if not line.strip() or (headed and number == 1):
            continue
        cells = line.split("\t")
        if len(cells) <= max(at, words) or (not headed and len(cells) != 2):
            raise DataError(f"{len(cells)} columns; want an id and a text", path, number)
        yield _stem(cells[at]), cells[words], number


_ITEMS = {"kaldi": _kaldi_items, "trn": _trn_items, "tsv": _tsv_items}


def _stem(name: str) -> str:
    """A recording's path without folder and ending; any other id as it is."""
    from uyir.decode.output import AUDIO_SUFFIXES

    return Path(name).stem if Path(name).suffix.lower() in AUDIO_SUFFIXES else name


def _json_items(text: str, path: str) -> Iterator[_Item]:
    """One object (a file of `uyir transcribe`), a list of them, or one a line."""
    rows: list[tuple[Any, Optional[int]]] = []
    try:
        values = json.loads(text)
        rows += [(value, None) for value in (values if isinstance(values, list) else [values])]
    except json.JSONDecodeError:
        for line_number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    rows.append((json.loads(line), line_number))
                except json.JSONDecodeError as error:
                    raise DataError(f"not JSON: {error.msg}", path, line_number) from None
    for value, number in rows:
        name = (
            next((value[k] for k in _ID_COLUMNS if k in value), None)
            if (isinstance(value, dict))
            else None
        )
        if not isinstance(name, str) or not isinstance(value.get("text"), str):
            raise DataError("want objects with a 'source' (or 'id') and a 'text'", path, number)
        yield _stem(name), value["text"], number


def _read_folder(folder: Path, form: Optional[str]) -> Texts:
    """A folder of outputs, a file an utterance: json where there are any, else txt."""
    for suffix in (".json", ".txt") if form is None else (f".{form}",):
        files = sorted(folder.rglob(f"*{suffix}"))
        if not files:
            continue
        out: dict[str, str] = {}
        for file in files:
            if suffix == ".json":
                items = [
                    (name, text) for name, text, _ in _json_items(_read_text(str(file)), str(file))
                ]
            else:
                items = [(_stem(file.stem), " ".join(_read_text(str(file)).split()))]
            for name, text in items:
                if name in out:
                    raise DataError(f"utterance {name!r} stands twice in this folder", file)
                out[name] = text
        return Texts(str(folder), out)
    raise DataError("no transcripts (json or txt) in this folder", folder)


def score_files(
    ref: Union[str, Path],
    hyp: Union[str, Path],
    language: str,
    *,
    ref_form: Optional[str] = None,
    hyp_form: Optional[str] = None,
    missing: str = "count",
) -> Report:
    """Compare two files by utterance id; see `read_texts` and `compare`.

    Files by line must have the same number of lines, for one line lost would shift all the others.
    Raises `DataError` for that, for a reference in another script, and where no id is in both.
    """
    refs, hyps = read_texts(ref, ref_form), read_texts(hyp, hyp_form)
    if refs.by_line != hyps.by_line:
        named, numbered = (hyps, refs) if refs.by_line else (refs, hyps)
        raise DataError(
            f"{numbered.path} has a line an utterance and {named.path} has ids: they cannot be matched"
        )
    if refs.by_line and len(refs.texts) != len(hyps.texts):
        raise DataError(
            f"{refs.path} has {len(refs.texts)} lines and {hyps.path} {len(hyps.texts)}: without "
            "ids they cannot be matched"
        )
    script = script_of("".join(refs.texts.values()))
    if script is not None and script != language:
        raise DataError(f"the reference is in the script of {script!r}, not {language!r}", ref)
    if refs.texts and hyps.texts and not set(refs.texts) & set(hyps.texts):
        raise DataError(
            f"no utterance is in both: {refs.path} has {next(iter(refs.texts))!r} …, "
            f"{hyps.path} has {next(iter(hyps.texts))!r} …"
        )
    return compare(refs.texts, hyps.texts, language, missing=missing)


def describe(report: Report) -> str:
    """The report for people."""
    lines = [f"{report.normalised.utterances} utterances, language {report.language}"]
    lines.append(f"{'':12}{'rate':>8}{'units':>9}{'sub':>8}{'del':>8}{'ins':>8}")
    for title, score in (("normalised", report.normalised), ("raw", report.raw)):
        lines.append(f"{title} (normaliser {NORMALISER_VERSION})" if title != "raw" else title)
        for name, counts in (
            ("WER", score.words),
            ("CER", score.letters),
            ("CER grapheme", score.graphemes),
        ):
            lines.append(
                f"  {name:12}{counts.rate:8.4f}{counts.units:9}{counts.substitutions:8}"
                f"{counts.deletions:8}{counts.insertions:8}"
            )
        lines.append(f"  {'SER':12}{score.ser:8.4f}{score.utterances:9}")
    for kind, names in (("missing", report.missing), ("extra", report.extra)):
        if names:
            shown = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
            rule = {"count": "counted as not recognised", "skip": "left out"}
            how = rule.get(report.missing_rule, "") if kind == "missing" else "not counted"
            lines.append(f"{len(names)} {kind} ({how}): {shown}")
    return "\n".join(lines)
