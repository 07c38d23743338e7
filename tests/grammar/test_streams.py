"""Texts read in blocks, and `uyir segment` on streams."""

from __future__ import annotations

import gzip
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import uyir.grammar.commands as commands
from uyir.errors import DataError
from uyir.grammar.segment import load_segmenter
from uyir.grammar.text import read_blocks, read_lines

LINES = ["\ufeffமரம் வீடு", "", "அ" * 1_500_000, "தம்பி\r", "last"]
WANTED = ["மரம் வீடு", "", "அ" * 1_500_000, "தம்பி", "last"]


@pytest.mark.parametrize("suffix", ["txt", "xz", "gz"])
@pytest.mark.parametrize("end", ["\n", ""])
def test_lines_of_any_length_come_in_order(tmp_path: Path, suffix: str, end: str) -> None:
    path = tmp_path / f"text.{suffix}"
    opener = {"xz": lzma.open, "gz": gzip.open}.get(suffix, open)
    with opener(path, "wb") as stream:
        stream.write(("\n".join(LINES) + end).encode())
    assert list(read_lines(path)) == WANTED
    blocks = list(read_blocks(path))
    assert all(blocks) and [line for block in blocks for line in block] == WANTED


def test_lines_before_a_bad_one_are_given(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"one\ntwo\n\xff\nfour\n")
    seen = []
    with pytest.raises(DataError, match="not UTF-8") as error:
        for line in read_lines(path):
            seen.append(line)
    assert seen == ["one", "two"]
    assert error.value.line == 3


def test_an_empty_text_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"")
    assert list(read_blocks(tmp_path / "text")) == []


def test_what_is_typed_is_answered_at_once() -> None:
    command = [sys.executable, "-c", "import uyir.cli; uyir.cli.main()", "segment", "-l", "kn"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for word in ("ಮನೆ", "ಮರ"):
            process.stdin.write(f"{word}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline().decode().startswith(f"{word}\t")
        process.stdin.close()
        assert process.wait() == 0


def test_a_stream_is_cut_the_same_however_little_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [word for word in ["மரத்தை", "வீடு", "தம்பிக்கு", "மரத்தை", "abc", "வீடு"] for _ in range(2)]
    text = tmp_path / "text"
    text.write_text("\n".join(f"{word} {other}" for word in words for other in words), "utf-8")
    runner = CliRunner()
    arguments = ["-l", "ta", "--file", str(text)]
    plain = runner.invoke(commands.segment, arguments)
    assert plain.exit_code == 1  # abc
    segmenter = load_segmenter("ta")
    wanted = []
    for line in text.read_text("utf-8").splitlines():
        for word in line.split():
            if word != "abc":
                found = segmenter.segment(word)
                wanted.append(f"{word}\t{' '.join(found.marked)}\tclosed\t{found.category}")
    assert [line for line in plain.output.splitlines() if "abc" not in line] == wanted
    monkeypatch.setattr(commands, "MOST_WORDS", 3)
    monkeypatch.setattr("uyir.grammar.text._BLOCK", 64)
    again = runner.invoke(commands.segment, arguments)
    # Talk and data of a block come one after the other, so only their order among themselves is told.
    assert sorted(again.output.splitlines()) == sorted(plain.output.splitlines())
    assert [line for line in again.output.splitlines() if "abc" not in line] == wanted
