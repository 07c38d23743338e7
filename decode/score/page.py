"""The report as one HTML page that needs nothing else: no network, no file beside it but recordings.

Text from the files goes into the page as text only: escaped where it stands in the HTML, and in the
page's data as JSON without ``<``; the page's own script and style are named by their hashes, so that
a browser runs no other. Fonts are those a system has for the two scripts (``page.css``).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import mimetypes
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import quote

from uyir.decode.score.counts import Counts, Interval
from uyir.decode.score.groups import Group
from uyir.decode.score.report import Report, Scored
from uyir.decode.score.terminal import describe
from uyir.errors import DataError
from uyir.grammar.script import NORMALISER_VERSION

_HERE = Path(__file__).parent
#: Rows of a list of words in the page; JSON and the errs file have all.
MOST_ROWS = 2000
#: Bytes of recordings that go into the page when that is asked for.
MOST_AUDIO = 200_000_000


def write_page(
    report: Report,
    path: Union[str, Path],
    *,
    audio_root: Optional[Path] = None,
    embed_audio: bool = False,
) -> None:
    """Write the page; recordings that are at hand get a player.

    A recording's path is looked for in ``audio_root``, beside the reference and where the program
    runs; the page links to it, or holds it if ``embed_audio`` (raises `DataError` over `MOST_AUDIO`).
    """
    path = Path(path)
    finder = _Recordings(path, report.ref_path, audio_root, embed_audio)
    try:
        path.write_text(page(report, finder), encoding="utf-8")
    except OSError as error:
        raise DataError(error.strerror or str(error), path) from None


class _Recordings:
    """Finds recordings and says how the page names them."""

    def __init__(
        self, page_path: Path, ref_path: str, root: Optional[Path], embed: bool = False
    ) -> None:
        self._page = page_path.resolve().parent
        beside = Path(ref_path).parent if ref_path != "-" else Path()
        self._folders = ([root] if root is not None else []) + [beside, Path()]
        self._embed = embed
        self._size = 0

    def url(self, audio: Optional[str]) -> Optional[str]:
        if not audio:
            return None
        file = next((f for f in (folder / audio for folder in self._folders) if f.is_file()), None)
        if file is None:
            return None
        if not self._embed:
            return quote(Path(os.path.relpath(file.resolve(), self._page)).as_posix())
        self._size += file.stat().st_size
        if self._size > MOST_AUDIO:
            raise DataError(
                f"more than {MOST_AUDIO // 10**6} MB of audio to put into the page", file
            )
        kind = mimetypes.guess_type(file.name)[0] or "audio/wav"
        return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


def page(report: Report, recordings: _Recordings) -> str:
    """The page's HTML."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    parts = {
        "title": html.escape(f"{Path(report.hyp_path).name} against {Path(report.ref_path).name}"),
        "language": report.language,
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "about": "".join(
            f"<p>{html.escape(line)}</p>" for line in [*describe(report), *report.notes]
        ),
        "summary": _summary(report),
        "speakers": _plot(report.groups.get("speaker", [])),
        "groups": "".join(_group_table(name, rows) for name, rows in report.groups.items()),
        "kinds": _kinds(report),
        "confusions": _confusions(report),
        "equal": _equal(report),
        "data": _data(report, recordings),
    }
    # One pass over the template, so that nothing in the texts can be taken for a part's name.
    pieces = (_HERE / "page.html").read_text(encoding="utf-8").split("@")
    return "".join(parts[piece] if n % 2 else piece for n, piece in enumerate(pieces))


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _data(report: Report, recordings: _Recordings) -> str:
    utterances = [
        [
            item.id,
            ", ".join(f"{key} {value}" for key, value in item.meta.items()),
            recordings.url(item.audio),
            item.here,
            _steps(item),
            [[g.kind, g.begin, g.end, g.hyp_begin, g.hyp_end] for g in item.equal],
        ]
        for item in report.utterances
    ]
    text = json.dumps(
        {"words": report.words, "utterances": utterances},
        ensure_ascii=False,
        separators=(",", ":"),
    )
    # Nothing in it can end the script element, or begin a comment.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _steps(item: Scored) -> list[Any]:
    ref, hyp = item.row.ref, item.row.hyp
    out: list[Any] = []
    at = shift = 0
    for i, j in item.row.steps:
        position = i if i is not None else (j or 0) - shift
        out += ref[at:position]
        out.append([-1 if i is None else ref[i], -1 if j is None else hyp[j]])
        at = position + (i is not None)
        shift += (i is None) - (j is None)
    out += ref[at:]
    return out


def _table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]], texts: int, language: str = ""
) -> str:
    """An HTML table; the first ``texts`` columns are words, the others numbers."""
    lang = f' lang="{language}"' if language else ""
    lines = [f'<table class="sortable"><caption>{html.escape(caption)}</caption><thead><tr>']
    for n, name in enumerate(head):
        text = ' class="text"' if n < texts else ""
        lines.append(f'<th scope="col"{text}>{html.escape(name)}</th>')
    lines.append("</tr></thead><tbody>")
    for row in rows:
        cells = [
            f'<td class="text"{lang}>{html.escape(str(cell))}</td>'
            if n < texts
            else f"<td>{html.escape(str(cell))}</td>"
            for n, cell in enumerate(row)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*lines, "</tbody></table>"])


def _cells(counts: Counts) -> list[Any]:
    numbers = (counts.units, counts.substitutions, counts.deletions, counts.insertions)
    return [f"{counts.rate:.4f}", *numbers]


def _summary(report: Report) -> str:
    def shown(interval: Optional[Interval]) -> str:
        return f"{interval.low:.4f}–{interval.high:.4f}" if interval else ""

    tables = []
    for title, score in (
        (f"Normalised (normaliser {NORMALISER_VERSION})", report.normalised),
        ("Raw", report.raw),
    ):
        rows: list[list[Any]] = [["WER", *_cells(score.words), shown(score.wer_interval)]]
        if score.tolerant is not None:
            rows.append(["WER, spacing and sandhi free", *_cells(score.tolerant), ""])
        rows.append(["CER, code points", *_cells(score.letters), shown(score.cer_interval)])
        rows.append(["CER, graphemes", *_cells(score.graphemes), ""])
        rows.append(["SER", f"{score.ser:.4f}", score.utterances, "", "", "", ""])
        rows.append(["MER", f"{score.words.mer:.4f}", "", "", "", "", ""])
        rows.append(["WIL", f"{score.words.wil:.4f}", "", "", "", "", ""])
        head = ("", "rate", "units", "sub", "del", "ins", "95 %")
        tables.append(_table(title, head, rows, 1))
    return f'<div class="tables">{"".join(tables)}</div>'


def _group_table(column: str, groups: Sequence[Group]) -> str:
    rows = [
        [
            group.name,
            f"{group.score.wer:.4f}",
            f"{group.score.cer:.4f}",
            group.score.utterances,
            group.score.words.units,
            group.score.words.errors,
        ]
        for group in groups
    ]
    head = (column, "WER", "CER", "utterances", "words", "errors")
    return f'<div class="scroll">{_table(f"By {column}", head, rows, 1)}</div>'


def _plot(groups: Sequence[Group]) -> str:
    """Speakers' word error rates as bars, highest first."""
    if not groups:
        return "<p>No speakers are known: --metadata or --speaker_pattern names them.</p>"
    width, height, left, bottom = 1100, 220, 40, 24
    rows = sorted(groups, key=lambda group: -group.score.wer)
    top = max(0.01, rows[0].score.wer) * 1.08
    step = (width - left) / len(rows)

    def y(rate: float) -> float:
        return (height - bottom) * (1 - rate / top)

    out = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="word error rate by speaker">'
    ]
    for n in range(5):
        rate = top * n / 5
        out.append(
            f'<line class="axis" x1="{left}" x2="{width}" y1="{y(rate):.1f}" y2="{y(rate):.1f}"/>'
            f'<text x="0" y="{y(rate) + 4:.1f}">{rate:.3f}</text>'
        )
    for n, group in enumerate(rows):
        rate = group.score.wer
        label = html.escape(f"{group.name}: WER {rate:.4f}, {group.score.words.units} words")
        out.append(
            f'<rect class="bar" x="{left + n * step:.2f}" width="{step * 0.85:.2f}" '
            f'y="{y(rate):.2f}" height="{height - bottom - y(rate):.2f}"><title>{label}</title></rect>'
        )
        if len(rows) <= 24:
            name = html.escape(group.name if len(group.name) < 12 else group.name[:11] + "…")
            middle = left + (n + 0.42) * step
            out.append(
                f'<text x="{middle:.1f}" y="{height - 8}" text-anchor="middle">{name}</text>'
            )
    return "".join([*out, "</svg>"])


def _kinds(report: Report) -> str:
    head = ("", "WER", "words", "sub", "del", "ins")

    def table(title: str, counts: Mapping[str, Counts]) -> str:
        return _table(title, head, [[name, *_cells(c)] for name, c in counts.items()], 1)

    out = []
    if report.categories:
        out.append(table("By category", report.categories))
    if report.vocabulary:
        out.append(table("By vocabulary", report.vocabulary))
    if report.positions:
        title = "Where substituted words are wrong"
        out.append(_table(title, ("part", "count"), report.positions.items(), 1))
    if report.affixes:
        common = report.affixes.most_common(MOST_ROWS)
        rows = [(a, b, count) for (a, b), count in common]
        title = "Affixes confused where the root is right"
        listed = _table(title, ("reference", "hypothesis", "count"), rows, 2, report.language)
        out.append(f'<div class="scroll">{listed}</div>')
    return "".join(out) or "<p>The grammar was not asked.</p>"


def _confusions(report: Report) -> str:
    rows: list[tuple[str, str, str, int]] = []
    rows += [(a, b, "substituted", n) for (a, b), n in report.substitutions.items()]
    rows += [(a, "", "deleted", n) for a, n in report.deletions.items()]
    rows += [("", b, "inserted", n) for b, n in report.insertions.items()]
    rows.sort(key=lambda row: (-row[3], row[:2]))
    return _listed(rows, ("reference", "hypothesis", "what", "count"), report.language)


def _equal(report: Report) -> str:
    ordered = sorted(report.equal.items(), key=lambda entry: (-entry[1], entry[0]))
    rows = [(item.ref, item.hyp, item.kind, count) for item, count in ordered]
    return _listed(rows, ("reference", "hypothesis", "by", "count"), report.language)


def _listed(rows: Sequence[Sequence[Any]], head: Sequence[str], language: str) -> str:
    if not rows:
        return "<p>None.</p>"
    shown = f"{len(rows)} in all" + (
        f", the {MOST_ROWS} most frequent shown" if len(rows) > MOST_ROWS else ""
    )
    return f'<div class="scroll">{_table(shown, head, rows[:MOST_ROWS], 2, language)}</div>'
