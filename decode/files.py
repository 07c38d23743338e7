"""Files that are there whole or not at all, in a folder that no name leads out of.

A file is renamed into place as soon as it is written: a process that is killed loses nothing that it wrote,
for the system holds it. Only a power cut does; `OutputFolder.sync` says when that is past.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Optional

from uyir.errors import DataError

#: Files in the making lie here, in the output folder, until they are whole.
MAKING = ".uyir-making"


class OutputFolder:
    """A folder to write to; ``part`` keeps the makings of runs that share the folder apart.

    Raises `DataError` where the folder cannot be made or written to. A process forked from the one that
    made it may write to it, too.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self.folder = folder
        self._making = folder / f"{MAKING}{part}"
        self._numbers = itertools.count()
        self._unsynced: list[Path] = []
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # What a killed run left is no one's.
            shutil.rmtree(self._making, ignore_errors=True)
            self._making.mkdir()
        except OSError as error:
            raise DataError(f"cannot be written to: {error.strerror or error}", folder) from None

    def path(self, name: Path) -> Path:
        """Where a name is in the folder; `DataError` for one that leads out of it, by a link too."""
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise DataError("leads out of the output folder", name)
        at = self.folder
        for part in name.parts[:-1]:
            at = at / part
            if at.is_symlink():
                raise DataError("is a link, and might lead out of the output folder", at)
        return self.folder / name

    def write(self, name: Path, data: bytes) -> Path:
        """Write a file, or leave the one that was there; makes its folder. Raises `DataError`."""
        path = self.path(name)
        temporary = f"{self._making}/{os.getpid()}-{next(self._numbers)}"
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            try:
                os.replace(temporary, path)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise DataError(f"cannot be written: {error.strerror or error}", path) from None
        self.wrote(path)
        return path

    def wrote(self, path: Path) -> None:
        """Take note of what a process forked from this one wrote: `sync` is to keep it."""
        if _syncfs() is None:
            with self._lock:
                self._unsynced.append(path)

    def sync(self) -> None:
        """Wait until all that was written is on the disk, and outlives a power cut. Raises `DataError`."""
        syncfs = _syncfs()
        try:
            if syncfs is None:
                with self._lock:
                    paths, self._unsynced = self._unsynced, []
                for path in paths:
                    _sync_one(path)
                for folder in {path.parent for path in paths}:
                    _sync_one(folder)
                return
            handle = os.open(self.folder, os.O_RDONLY)
            try:
                if syncfs(handle) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
            finally:
                os.close(handle)
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"what was written is not kept: {reason}", self.folder) from None

    def close(self) -> None:
        """Remove the place of makings."""
        shutil.rmtree(self._making, ignore_errors=True)


def _sync_one(path: Path) -> None:
    # What has been removed or moved meanwhile is its owner's affair.
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@lru_cache(maxsize=1)
def _syncfs() -> Optional[Callable[[int], int]]:
    """Linux's way to wait for a whole disk; None elsewhere."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError, TypeError):
        return None
    return found
