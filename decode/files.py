"""Files that are there whole or not at all, in a folder that no name leads out of."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Optional, Union

from uyir.errors import DataError

#: Files in the making lie here, in the output folder, until they are whole.
MAKING = ".uyir-making"


#: From so many files on, all are waited for at once: a disk takes some ms for each that it is asked to keep.
MANY = 8


class OutputFolder:
    """A folder to write to; ``part`` keeps the makings of runs that share the folder apart.

    Raises `DataError` where the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self.folder = folder
        self._making = folder / f"{MAKING}{part}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # What a killed run left is no one's.
            shutil.rmtree(self._making, ignore_errors=True)
            self._making.mkdir()
            self._umask = _umask()
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
        (problem,) = self.write_all([(name, data)])
        if problem is not None:
            raise problem
        return self.folder / name

    def write_all(self, files: Sequence[tuple[Path, bytes]]) -> list[Optional[DataError]]:
        """Write files as `write` does, waiting for the disk once; says of each what was wrong with it."""
        made: list[Union[tuple[Path, str], DataError]] = []
        for name, data in files:
            try:
                path = self.path(name)
                made.append((path, self._make(path, data, sync=len(files) < MANY)))
            except DataError as error:
                made.append(error)
        if len(files) >= MANY and not self._sync():
            for one in made:
                if not isinstance(one, DataError):
                    _sync_file(one[1])
        out: list[Optional[DataError]] = []
        for one in made:
            if isinstance(one, DataError):
                out.append(one)
                continue
            path, temporary = one
            try:
                os.replace(temporary, path)
                out.append(None)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                out.append(_unwritable(error, path))
        return out

    def _make(self, path: Path, data: bytes, *, sync: bool) -> str:
        """The file under another name, where no one looks for it."""
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._making)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                # Else a power cut may leave a name without its content.
                if sync:
                    os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~self._umask)
            return temporary
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            raise _unwritable(error, path) from None

    def _sync(self) -> bool:
        """Have all that was written to the folder's disk on it; whether that can be asked for here."""
        syncfs = _syncfs()
        if syncfs is None:
            return False
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            return bool(syncfs(handle) == 0)
        finally:
            os.close(handle)

    def close(self) -> None:
        """Remove the place of makings."""
        shutil.rmtree(self._making, ignore_errors=True)


def _unwritable(error: OSError, path: Path) -> DataError:
    return DataError(f"cannot be written: {error.strerror or error}", path)


def _sync_file(path: str) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@lru_cache(maxsize=1)
def _syncfs() -> Optional[Callable[[int], int]]:
    """Linux's way to wait for a whole disk; None elsewhere."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError, TypeError):
        return None
    return found


def _umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now
