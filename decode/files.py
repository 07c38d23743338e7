"""Files that are there whole or not at all, in a folder that no name leads out of."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from uyir.errors import DataError

#: Files in the making lie here, in the output folder, until they are whole.
MAKING = ".uyir-making"


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
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._making)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                # Else a power cut may leave a name without its content.
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            raise DataError(f"cannot be written: {error.strerror or error}", path) from None
        return path

    def close(self) -> None:
        """Remove the place of makings."""
        shutil.rmtree(self._making, ignore_errors=True)


def _umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now
