"""Where what is made once and kept for the next time lies: expanded grammars, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$UYIR_CACHE``, else ``uyir`` in ``$XDG_CACHE_HOME``, else ``~/.cache/uyir``.

    Raises `RuntimeError` where there is no home folder either.
    """
    own = os.environ.get("UYIR_CACHE", "")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "uyir"
