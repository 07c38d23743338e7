"""uyir: open-vocabulary speech recognition for Tamil and Kannada by subword grammars."""

from __future__ import annotations

__version__ = "0.1.0"

LANGUAGES = ("ta", "kn")
