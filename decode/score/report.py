"""Everything that is said of a reference and a hypothesis: `score_files` and its `Report`."""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from uyir.decode.score import timed
from uyir.decode.score.background import Background
from uyir.decode.score.counts import Counts, Score
from uyir.decode.score.groups import Group, group_by
from uyir.decode.score.kinds import POSITIONS, Kinds, categories_of
from uyir.decode.score.measure import TOLERANT, Meter, Normaliser, Row, as_array, score_of
from uyir.decode.score.read import (
    Reading,
    Texts,
    Utterance,
    check_script,
    form_of,
    read_text,
    read_texts,
    with_metadata,
)
from uyir.decode.score.significance import interval, sum_by
from uyir.decode.score.tolerant import Equal, Tolerance
from uyir.decode.score.tolerant import Group as EqualGroup
from uyir.errors import DataError
from uyir.grammar.script import NORMALISER_VERSION
from uyir.grammar.segment import load_segmenter
from uyir.grammar.text import read_lines

#: What becomes of an utterance that only one side has.
MISSING = ("count", "skip", "error")
#: With more utterances than this their words are segmented in a process of their own.
_MANY_UTTERANCES = 1000


@dataclass(frozen=True)
class Options:
    """How to score.

    ``missing``, ``extra``: an utterance that only the reference (only the hypothesis) has counts as
    deleted (inserted) words (``count``), is left out (``skip``), or is a `DataError` (``error``).
    ``by``: columns of metadata to make tables by, besides speaker and duration. ``grammar``: whether to
    load the grammar, for categories, parts of words and sandhi variants. ``vocabulary``: words, for
    the rates in and out of it. ``draws``: of the bootstrap; 0 for no intervals.
    """

    language: str
    costs: str = "unit"
    missing: str = "count"
    extra: str = "skip"
    by: tuple[str, ...] = ()
    grammar: bool = True
    vocabulary: Optional[frozenset[str]] = None
    draws: int = 1000
    speaker_pattern: Optional[str] = None
    any_script: bool = False


@dataclass(frozen=True)
class Scored:
    """One utterance of a report; ``equal`` are the groups that only differ by spacing or sandhi."""

    id: str
    row: Row
    equal: tuple[EqualGroup, ...]
    meta: Mapping[str, str]
    audio: Optional[str]
    here: bool  # whether the hypothesis has it


@dataclass(frozen=True)
class Report:
    """A comparison of two files. ``missing`` and ``extra`` are ids that only the reference, only the
    hypothesis has; the rules say what became of them. All tables are of normalised text."""

    options: Options
    ref_path: str
    hyp_path: str
    raw: Score
    normalised: Score
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    #: What the bootstrap draws: ``speaker`` or ``utterance``, and how many there are.
    drawn: tuple[str, int]
    groups: dict[str, list[Group]] = field(default_factory=dict)
    categories: dict[str, Counts] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    affixes: Counter[tuple[str, str]] = field(default_factory=Counter)
    vocabulary: dict[str, Counts] = field(default_factory=dict)
    substitutions: Counter[tuple[str, str]] = field(default_factory=Counter)
    deletions: Counter[str] = field(default_factory=Counter)
    insertions: Counter[str] = field(default_factory=Counter)
    equal: Counter[Equal] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    words: list[str] = field(default_factory=list)
    utterances: list[Scored] = field(default_factory=list)

    @property
    def language(self) -> str:
        return self.options.language


def score_files(
    ref: Union[str, Path],
    hyp: Union[str, Path],
    language: str,
    *,
    ref_form: Optional[str] = None,
    hyp_form: Optional[str] = None,
    ref_column: Optional[str] = None,
    hyp_column: Optional[str] = None,
    full_paths: bool = False,
    metadata: Iterable[Union[str, Path]] = (),
    options: Optional[Options] = None,
) -> Report:
    """Compare two files by utterance id; see `read.read_texts` for formats, `Options` for the rest.

    Files by line must have the same number of lines, for one line lost would shift all the others.
    Raises `DataError` for that, for a text in another script, and where no id is in both.
    """
    options = replace(options, language=language) if options else Options(language)
    with no_collector():
        refs = read_texts(ref, ref_form, column=ref_column, full_paths=full_paths)
        for path in metadata:
            refs = with_metadata(refs, path)
        hyps = read_hypothesis(hyp, ref, ref_form, Reading("hyp", hyp_form, hyp_column, full_paths))
        return score_texts(refs, hyps, options)


@contextmanager
def no_collector() -> Iterator[None]:
    """Millions of small objects are made here and none in circles: looking for circles among them
    took a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_hypothesis(
    hyp: Union[str, Path], ref: Union[str, Path], ref_form: Optional[str], reading: Reading
) -> Texts:
    """A hypothesis for a reference: the words of a CTM go into the segments of an STM by their times."""
    hyp, ref = str(hyp), str(ref)
    files = not any(name != "-" and Path(name).is_dir() for name in (hyp, ref))
    if files and form_of(hyp, reading.form) == "ctm" and form_of(ref, ref_form) == "stm":
        return timed.read_into_segments(read_text(hyp), hyp, read_text(ref), ref, reading)
    return read_texts(
        hyp, reading.form, role="hyp", column=reading.column, full_paths=reading.full_paths
    )


def read_vocabulary(path: Union[str, Path], language: str) -> frozenset[str]:
    """The words of a vocabulary: the first column of each line, normalised as the texts are."""
    normaliser = Normaliser(language)
    words = frozenset(
        word for line in read_lines(path) for word in normaliser.words(" ".join(line.split()[:1]))
    )
    if not words:
        raise DataError("no word in this vocabulary", path)
    return words


def score_texts(refs: Texts, hyps: Texts, options: Options) -> Report:
    """Score texts by utterance id, raw and normalised; raises `DataError` where they do not match."""
    pairs, missing, extra = _match(refs, hyps, options)
    notes = refs.notes + hyps.notes
    if not options.any_script:
        for texts in (refs, hyps):
            notes += check_script(texts, options.language)
    by_kind = None
    if options.grammar:
        many = len(pairs) > _MANY_UTTERANCES
        by_kind = Background(lambda: _kinds(pairs, options.language), _by_kind, apart=many)
    raw, rows, meter, counts = _measure(pairs, options)
    errors = _Errors(meter.words, rows)
    if by_kind is not None:
        by_kind.give(errors)
    segmenter = load_segmenter(options.language) if options.grammar else None
    tolerance = Tolerance(options.language, segmenter, options.costs)
    words = meter.words
    utterances: list[Scored] = []
    equal: Counter[Equal] = Counter()
    for (item, hyp), row, count in zip(pairs, rows, counts):
        found: list[EqualGroup] = []
        if row.steps:
            ref_words, hyp_words = [words[n] for n in row.ref], [words[n] for n in row.hyp]
            tolerant, found = tolerance.count(ref_words, hyp_words)
            for group in found:
                left = " ".join(ref_words[group.begin : group.end])
                right = " ".join(hyp_words[group.hyp_begin : group.hyp_end])
                equal[Equal(group.kind, left, right)] += 1
            if tolerant is not None:
                count[TOLERANT:] = [
                    tolerant.units,
                    tolerant.substitutions,
                    tolerant.deletions,
                    tolerant.insertions,
                ]
        meta = item.meta
        if options.speaker_pattern is not None and "speaker" not in meta:
            meta = {**meta, **_speaker(item.id, options.speaker_pattern)}
        audio = item.audio or (hyp.audio if hyp else None)
        utterances.append(Scored(item.id, row, tuple(found), meta, audio, hyp is not None))
    table = as_array(counts) if counts else np.zeros((0, 16), dtype=np.int64)
    groups, drawn, score = _grouped(table, utterances, options)
    report = Report(
        options,
        refs.path,
        hyps.path,
        raw,
        score,
        missing,
        extra,
        drawn,
        groups,
        substitutions=errors.named_substitutions(),
        deletions=errors.named(errors.deletions),
        insertions=errors.named(errors.insertions),
        equal=equal,
        notes=notes,
        words=words,
        utterances=utterances,
    )
    if by_kind is not None:
        report = replace(report, **by_kind.result())
    if options.vocabulary is not None:
        known = options.vocabulary
        tables = errors.by_class(
            ["in vocabulary" if word in known else "out of vocabulary" for word in words],
            ("in vocabulary", "out of vocabulary"),
        )
        report = replace(report, vocabulary=tables)
    return report


def _match(
    refs: Texts, hyps: Texts, options: Options
) -> tuple[list[tuple[Utterance, Optional[Utterance]]], tuple[str, ...], tuple[str, ...]]:
    for rule in (options.missing, options.extra):
        if rule not in MISSING:
            raise DataError(f"such utterances are treated by {', '.join(MISSING)}, not {rule!r}")
    if not refs.utterances:
        raise DataError("no utterance in it", refs.path)
    if refs.by_line != hyps.by_line:
        named, numbered = (hyps, refs) if refs.by_line else (refs, hyps)
        raise DataError(
            f"{numbered.path} has a line an utterance and {named.path} has ids: they cannot be matched"
        )
    if refs.by_line and len(refs.utterances) != len(hyps.utterances):
        raise DataError(
            f"{refs.path} has {len(refs.utterances)} lines and {hyps.path} "
            f"{len(hyps.utterances)}: without ids they cannot be matched"
        )
    missing = tuple(name for name in refs.utterances if name not in hyps.utterances)
    extra = tuple(name for name in hyps.utterances if name not in refs.utterances)
    if hyps.utterances and len(missing) == len(refs.utterances):
        raise DataError(
            f"no utterance is in both: {refs.path} has {missing[0]!r} …, {hyps.path} has {extra[0]!r} …"
        )
    for names, rule, side, other in (
        (missing, options.missing, hyps, refs),
        (extra, options.extra, refs, hyps),
    ):
        if rule == "error" and names:
            raise DataError(
                f"{side.path} lacks {len(names)} utterances, first {names[0]!r}",
                other.path,
                other.utterances[names[0]].line,
            )
    pairs: list[tuple[Utterance, Optional[Utterance]]] = [
        (item, hyps.utterances.get(name))
        for name, item in refs.utterances.items()
        if options.missing == "count" or name in hyps.utterances
    ]
    if options.extra == "count":
        for name in extra:
            hyp = hyps.utterances[name]
            pairs.append((replace(hyp, text="", line=None), hyp))
    return pairs, missing, extra


def _measure(
    pairs: Sequence[tuple[Utterance, Optional[Utterance]]], options: Options
) -> tuple[Score, list[Row], Meter, list[list[int]]]:
    """Count all pairs: raw, in total, and normalised, by utterance."""
    meter = Meter(options.costs)
    plain = Meter(options.costs, meter.graphemes)
    normaliser = Normaliser(options.language)
    rows: list[Row] = []
    counts: list[list[int]] = []
    totals = np.zeros(12, dtype=np.int64)
    wrong = 0
    for item, hyp in pairs:
        ref_raw, hyp_raw = item.text.split(), hyp.text.split() if hyp is not None else []
        ref_words = normaliser.words(item.text)
        hyp_words = normaliser.words(hyp.text) if hyp is not None else []
        row, count = meter.count(ref_words, hyp_words)
        if ref_words == ref_raw and hyp_words == hyp_raw:
            raw = count
        else:
            _, raw = plain.count(ref_raw, hyp_raw)
        totals += raw
        wrong += any(raw[1:4])
        rows.append(row)
        counts.append([*count, *count[:4]])
    return score_of(totals.tolist(), len(pairs), wrong), rows, meter, counts


def _speaker(name: str, pattern: str) -> dict[str, str]:
    match = re.search(pattern, name)
    if match is None:
        return {}
    return {"speaker": match.group(1) if match.re.groups else match.group(0)}


def _grouped(
    table: np.ndarray[Any, np.dtype[np.int64]], utterances: Sequence[Scored], options: Options
) -> tuple[dict[str, list[Group]], tuple[str, int], Score]:
    metas = [item.meta for item in utterances]
    have = {key for meta in metas for key in meta}
    for column in options.by:
        if column not in have:
            names = ", ".join(sorted(have)) or "none"
            raise DataError(f"no utterance has {column!r} to group by; there are {names}")
    always: tuple[str, ...] = ("speaker", "duration")
    columns = [c for c in always if c in have]
    columns += [c for c in dict.fromkeys(options.by) if c not in columns]
    groups = {column: group_by(column, metas, table) for column in columns}
    score = score_of(table.sum(axis=0).tolist(), len(table), int((table[:, 1:4].any(axis=1)).sum()))
    drawn, units = "utterance", table
    if "speaker" in have and len(groups["speaker"]) > 1:
        numbers: dict[str, int] = {}
        by = [numbers.setdefault(meta.get("speaker", ""), len(numbers)) for meta in metas]
        drawn, units = "speaker", sum_by(np.array(by, dtype=np.int64), table)
    score = replace(
        score,
        wer_interval=interval(units[:, 1:4].sum(axis=1), units[:, 0], options.draws),
        cer_interval=interval(units[:, 5:8].sum(axis=1), units[:, 4], options.draws),
    )
    return groups, (drawn, len(units)), score


class _Errors:
    """The errors of all utterances by word number."""

    def __init__(self, words: Sequence[str], rows: Sequence[Row]) -> None:
        self.words = words
        self.units: Counter[int] = Counter()
        self.substitutions: Counter[tuple[int, int]] = Counter()
        self.deletions: Counter[int] = Counter()
        self.insertions: Counter[int] = Counter()
        for ref, hyp, steps in rows:
            self.units.update(ref)
            for i, j in steps:
                if i is None:
                    self.insertions[hyp[j or 0]] += 1
                elif j is None:
                    self.deletions[ref[i]] += 1
                else:
                    self.substitutions[ref[i], hyp[j]] += 1

    def named(self, counts: Counter[int]) -> Counter[str]:
        return Counter({self.words[word]: count for word, count in counts.items()})

    def named_substitutions(self) -> Counter[tuple[str, str]]:
        words = self.words
        return Counter({(words[a], words[b]): n for (a, b), n in self.substitutions.items()})

    def by_class(
        self, classes: Union[Mapping[int, str], Sequence[str]], names: Sequence[str]
    ) -> dict[str, Counts]:
        """Counts by class of the reference's word; an inserted word counts for its own class."""
        found = {name: [0, 0, 0, 0] for name in names}
        for word, count in self.units.items():
            found[classes[word]][0] += count
        for (word, _), count in self.substitutions.items():
            found[classes[word]][1] += count
        for word, count in self.deletions.items():
            found[classes[word]][2] += count
        for word, count in self.insertions.items():
            found[classes[word]][3] += count
        return {name: Counts(*counts) for name, counts in found.items()}


def _kinds(pairs: Sequence[tuple[Utterance, Optional[Utterance]]], language: str) -> Kinds:
    """What kind of word each word of the texts is."""
    normaliser = Normaliser(language)
    words: set[str] = set()
    for item, hyp in pairs:
        words.update(normaliser.words(item.text))
        if hyp is not None:
            words.update(normaliser.words(hyp.text))
    kinds = Kinds(language, load_segmenter(language))
    kinds.learn(words)
    return kinds


def _by_kind(kinds: Kinds, errors: _Errors) -> dict[str, Any]:
    words = errors.words
    classed = {*errors.units, *errors.insertions}
    classes = {n: kinds.category(words[n]) for n in classed}
    positions: Counter[str] = Counter()
    affixes: Counter[tuple[str, str]] = Counter()
    for (a, b), count in sorted(errors.substitutions.items(), key=lambda item: words[item[0][1]]):
        position = kinds.position(words[a], words[b])
        positions[position] += count
        if position == "affix":
            affixes[kinds.affixes(words[a]), kinds.affixes(words[b], words[a])] += count
    return {
        "categories": errors.by_class(classes, categories_of(kinds.language)),
        "positions": {name: positions[name] for name in POSITIONS},
        "affixes": affixes,
    }


def to_dict(report: Report, top: int = 100) -> dict[str, Any]:
    """As JSON; ``decode/score/README.md`` says what the keys mean. Lists of words are cut at ``top``."""
    options = report.options

    def pairs(counts: Mapping[Any, int]) -> list[dict[str, Any]]:
        common = Counter(counts).most_common(top)
        return [{"ref": ref, "hyp": hyp, "count": count} for (ref, hyp), count in common]

    def single(counts: Counter[str]) -> list[dict[str, Any]]:
        return [{"word": word, "count": count} for word, count in counts.most_common(top)]

    def table(counts: Mapping[str, Counts]) -> dict[str, Any]:
        return {name: {"wer": round(c.rate, 6), **c.to_dict()} for name, c in counts.items()}

    return {
        "language": report.language,
        "normaliser": NORMALISER_VERSION,
        "costs": options.costs,
        "missing": list(report.missing),
        "extra": list(report.extra),
        "missing_rule": options.missing,
        "extra_rule": options.extra,
        "notes": list(report.notes),
        **report.normalised.to_dict(),
        "drawn": {"unit": report.drawn[0], "count": report.drawn[1], "draws": options.draws},
        "raw": report.raw.to_dict(),
        "by": {
            column: {group.name: group.score.to_dict() for group in groups}
            for column, groups in report.groups.items()
        },
        "categories": table(report.categories),
        "positions": report.positions,
        "vocabulary": table(report.vocabulary),
        "confusions": {
            "substitutions": pairs(report.substitutions),
            "deletions": single(report.deletions),
            "insertions": single(report.insertions),
            "affixes": pairs(report.affixes),
        },
        "equal": [
            {"kind": item.kind, "ref": item.ref, "hyp": item.hyp, "count": count}
            for item, count in report.equal.most_common(top)
        ],
    }
