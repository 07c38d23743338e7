"""What is to be transcribed: files, folders, globs, a list on stdin, and the names of their outputs.

An output's name is a path without ending, relative to the output folder, and never leaves it: what a
name holds of ``..``, roots and control characters is dropped or replaced, what is too long is cut.
"""

from __future__ import annotations

import glob
import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Optional, Union

from uyir.asr.audio import AUDIO_SUFFIXES

#: Bytes that one component of an output's name may have; the ending comes on top.
NAME_BYTES = 200


@dataclass(frozen=True)
class Input:
    """One recording to do, or a part of one, and its output's name without ending.

    ``start`` and ``duration`` (s) and ``channel`` (from 0) say which part; ``command`` is a shell
    command that writes the recording, instead of ``path``; ``id`` what outputs call it, by default
    the file's name; ``language`` its language where it is known.
    """

    path: Path
    output: Path
    start: float = 0.0
    duration: Optional[float] = None
    channel: Optional[int] = None
    command: Optional[str] = None
    id: Optional[str] = None
    language: Optional[str] = None

    @property
    def name(self) -> str:
        """What messages call it."""
        if self.command is not None or self.start or self.duration is not None:
            return f"{self.path} ({self.id})" if self.command is None else str(self.id)
        return str(self.path)


def find_inputs(
    arguments: Iterable[str], stdin: Optional[IO[str]] = None
) -> tuple[list[Input], list[str]]:
    """The recordings that arguments name, and what is wrong with the others.

    A folder is searched, its tree mirrored; a pattern (``*``, ``?``, ``[``; ``**`` for folders of any
    depth) that is no file's name is a glob, mirrored from its first folder without a pattern; ``-``
    is a list of files on ``stdin``, a line each (or separated by NUL), mirrored as they are named.
    Two inputs never share an output, see `named`.
    """
    found: list[Input] = []
    problems: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if argument == "-" and stdin is not None:
            text = stdin.read()
            lines = text.split("\0") if "\0" in text else text.splitlines()
            found += [Input(Path(line), Path(line)) for line in lines if line.strip()]
        elif os.path.isdir(path):  # unlike Path's it takes a name that is too long
            inside = _walk(path, problems)
            if not inside and not any(p.startswith(f"{path}") for p in problems):
                problems.append(f"{path}: no recordings in this folder")
            found += [Input(file, file.relative_to(path)) for file in inside]
        elif glob.has_magic(argument) and not os.path.lexists(path):
            files = sorted(p for p in glob.glob(argument, recursive=True) if not os.path.isdir(p))
            if not files:
                problems.append(f"{argument}: no file matches")
            root = _unmagical(argument)
            found += [Input(Path(p), Path(os.path.relpath(p, root))) for p in files]
        else:
            found.append(Input(path, Path(path.name)))
    return named(found), problems


def _unmagical(pattern: str) -> str:
    """The folder that a pattern begins with."""
    parts = Path(pattern).parts
    fixed = []
    for part in parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return str(Path(*fixed)) if fixed else "."


def _walk(folder: Path, problems: list[str]) -> list[Path]:
    from uyir.asr.media import MEDIA_SUFFIXES, can_read_media

    suffixes = AUDIO_SUFFIXES | MEDIA_SUFFIXES if can_read_media() else AUDIO_SUFFIXES

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror or error}")

    out = []
    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        out += [Path(root) / f for f in sorted(files) if Path(f).suffix.lower() in suffixes]
    return out


def named(found: Sequence[Input]) -> list[Input]:
    """Inputs with outputs that are safe and all different, also where case does not count.

    Where names without ending collide the ending is kept (``a.wav.txt``), and where they still do
    a number is added.
    """
    whole = [safe_path(str(entry.output)) for entry in found]
    bases = [
        _shorter(name if entry.id is not None else name.with_suffix(""))
        for entry, name in zip(found, whole)
    ]
    counts: dict[str, int] = {}
    for base in bases:
        counts[_folded(base)] = counts.get(_folded(base), 0) + 1
    taken: set[str] = set()
    out = []
    for entry, relative, base in zip(found, whole, bases):
        name = base if counts[_folded(base)] == 1 else _shorter(relative)
        number = 2
        while _folded(name) in taken:
            name = _shorter(relative.with_name(f"{relative.name}~{number}"), f"~{number}")
            number += 1
        taken.add(_folded(name))
        out.append(replace(entry, output=Path(name)))
    return out


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def safe_path(name: str) -> PurePosixPath:
    """A relative path without ``..``, root or control characters, whatever the name.

    >>> str(safe_path("/etc/../a\\nb"))
    'etc/a_b'
    """
    parts = [
        "".join(
            c if c.isprintable() or ord(c) in (0x200C, 0x200D) or _is_byte(c) else "_" for c in p
        )
        for p in name.replace("\\", "/").split("/")
        if p not in ("", ".", "..")
    ]
    # A name of ours in the output folder begins so.
    parts = [f"_{p}" if p.startswith(".uyir") else p for p in parts]
    return PurePosixPath(*parts) if parts else PurePosixPath("_")


def _is_byte(character: str) -> bool:
    """Whether it stands for a byte of a name that is not UTF-8."""
    return 0xDC80 <= ord(character) <= 0xDCFF


def _shorter(path: PurePosixPath, keep: str = "") -> PurePosixPath:
    """The path with components of more than `NAME_BYTES` cut, their hash and ``keep`` at the end."""
    parts = []
    for part in path.parts:
        raw = os.fsencode(part)
        if len(raw) > NAME_BYTES:
            mark = f"~{hashlib.sha256(raw).hexdigest()[:12]}{keep}"
            cut = raw[: NAME_BYTES - len(mark)].decode("utf-8", "ignore")
            part = cut + mark
        parts.append(part)
    return PurePosixPath(*parts)


def content_hash(path: Union[str, Path]) -> str:
    """SHA-256 of a file's bytes, hexadecimal; raises `OSError`."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
