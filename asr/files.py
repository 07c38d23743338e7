"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Union

from uyir.errors import DataError


def write_whole(path: Path, content: Union[str, bytes, memoryview]) -> None:
    """Write a file, text as UTF-8, whole or not at all, making its folder where it is not there.

    Raises `DataError` where it cannot be written, because the disk is full, say; what was there stays then.
    """
    part = path.with_name(path.name + ".part")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise DataError(f"cannot be written: {error.strerror or error}", path) from None
