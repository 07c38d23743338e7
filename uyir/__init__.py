"""uyir: open-vocabulary speech recognition for Tamil and Kannada by subword grammars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

if TYPE_CHECKING:
    from uyir.decode.transcribe import Recogniser

    #: Codes of the languages, as `grammar/languages.tsv` lists them.
    LANGUAGES: tuple[str, ...]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Read when first asked for: `uyir --help` needs no table.
    if name == "LANGUAGES":
        from uyir.grammar.lists import language_names

        globals()[name] = tuple(language_names())
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(model: Optional[Union[str, Path]] = None, **options: Any) -> Recogniser:
    """A recogniser from a model folder or the name of a bundled model, by default the bundled one.

    ``uyir.load().transcribe(["talk.mp3"])`` gives a list of `uyir.decode.transcript.Transcript`. Options
    are those of `uyir.decode.transcribe.load`.
    """
    from uyir.decode import transcribe

    return transcribe.load(model, **options)
