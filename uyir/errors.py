"""Errors that are for people: each says what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union


class UyirError(Exception):
    """Base of every error that a user's input can cause; commands print it without a traceback."""


class DataError(UyirError):
    """A list, text or table is malformed.

    >>> str(DataError("two columns, want seven", "verbs/infix.tsv", 12))
    'verbs/infix.tsv:12: two columns, want seven'
    """

    def __init__(
        self, message: str, path: Optional[Union[str, Path]] = None, line: Optional[int] = None
    ) -> None:
        where = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(where + message)
        self.path = path
        self.line = line


class ScriptError(UyirError):
    """A word is not well formed in its script, or belongs to another one."""


class AudioError(UyirError):
    """A recording cannot be read or holds nothing that can be recognised."""


class ModelError(UyirError):
    """A model folder lacks a file, or a file in it is damaged or of another model."""


class GraphError(UyirError):
    """A graph cannot be built within its limits, or does not fit the model that reads it."""


class EngineError(UyirError):
    """A search engine cannot run here, or failed on an utterance."""
