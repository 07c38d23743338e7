"""Recipes: the stages of a corpus from its files to a scored model, each run when its inputs changed.

A recipe is a folder with a ``recipe.yaml``::

    summary: what it makes of what
    settings: {corpus: null, minutes: 12}     # null: must be set
    stages:
      - name: prepare
        run: [["{uyir}", corpus, prepare, "{corpus}", --out, "{out}/data"]]
        inputs: ["{corpus}"]
        outputs: ["{out}/data/train.tsv"]

Commands are lists of words and no shell sees them. ``{recipe}`` is the recipe's folder, ``{out}`` the
output folder, ``{python}`` this Python, ``{uyir}`` this package's command line; the rest are settings.
A stage is skipped where its commands, the contents of its inputs and of the recipe's own files that it
names are those of its last run, and its outputs are there. Recipes are run as programs, never imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

from uyir.asr.files import write_whole
from uyir.errors import DataError, UyirError

#: Beside the package's folders, in the repository and in a wheel (``uyir/recipes``) alike.
RECIPES = Path(__file__).resolve().parent.parent / "recipes"
_SETTING = re.compile(r"\{(\w+)\}")
_HASHED_BYTES = 64_000_000
# Not -m: that would take a folder named uyir, where the user happens to be, for the package.
_UYIR = "import sys; del sys.path[0]; from uyir.cli import main; sys.exit(main())"


class StageError(UyirError):
    """A stage's command failed."""


@dataclass(frozen=True)
class Stage:
    """Commands to run one after the other, what they read and what they write."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]


@dataclass(frozen=True)
class Recipe:
    """A recipe with its settings filled in."""

    folder: Path
    summary: str
    out: Path
    stages: tuple[Stage, ...]


def find_recipe(name: Union[str, Path]) -> Path:
    """The folder of a recipe: one that comes with uyir, by its name, or any folder with a
    ``recipe.yaml``. Raises `DataError` listing what there is."""
    for folder in (RECIPES / str(name), Path(name)):
        if (folder / "recipe.yaml").is_file():
            return folder.resolve()
    there = ", ".join(path.name for path in list_recipes()) or "none"
    raise DataError(f"{name}: no such recipe; there are: {there}")


def list_recipes() -> list[Path]:
    """The recipes that come with uyir."""
    return sorted(path.parent for path in RECIPES.glob("*/recipe.yaml"))


def read_values(folder: Path) -> dict[str, Any]:
    """The mapping in a recipe's YAML; raises `DataError`."""
    import yaml

    path = folder / "recipe.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"not readable as YAML: {error}", path) from None
    if not isinstance(values, dict) or not isinstance(values.get("stages"), list):
        raise DataError("want a mapping with a list of stages", path)
    return values


def read_recipe(folder: Path, out: Path, settings: Mapping[str, str]) -> Recipe:
    """A recipe with the user's settings over its own; raises `DataError` for unknown and missing
    ones and for stages that make no sense."""
    path = folder / "recipe.yaml"
    values = read_values(folder)
    known: dict[str, Any] = dict(values.get("settings") or {})
    for name in settings:
        if name not in known:
            raise DataError(f"no setting {name!r}; there are: {', '.join(known) or 'none'}", path)
    known.update(settings)
    known.update(recipe=str(folder), out=str(out), python=sys.executable, uyir="{uyir}")

    def fill(text: Any) -> str:
        def value(found: re.Match[str]) -> str:
            if found[1] not in known:
                raise DataError(f"{{{found[1]}}} is no setting", path)
            if known[found[1]] is None:
                raise DataError(f"give --set {found[1]}=..., which has no default", path)
            return str(known[found[1]])

        return _SETTING.sub(value, str(text))

    stages: list[Stage] = []
    for entry in values["stages"]:
        try:
            name, run = str(entry["name"]), entry["run"]
            commands = []
            for command in run:
                words = [fill(word) for word in command]
                if words[0] == "{uyir}":
                    words[:1] = [sys.executable, "-c", _UYIR]
                commands.append(tuple(words))
            inputs = tuple(Path(fill(word)) for word in entry.get("inputs", ()))
            outputs = tuple(Path(fill(word)) for word in entry.get("outputs", ()))
        except (KeyError, TypeError, IndexError):
            raise DataError(f"a stage wants a name and a list of commands: {entry}", path) from None
        if any(stage.name == name for stage in stages):
            raise DataError(f"stage {name!r} stands twice", path)
        stages.append(Stage(name, tuple(commands), inputs, outputs))
    return Recipe(folder, str(values.get("summary", "")), out, tuple(stages))


def choose_stages(recipe: Recipe, wanted: Optional[str]) -> list[Stage]:
    """The stages of ``a..b``, ``a..``, ``..b`` or ``a``; all of them for None."""
    names = [stage.name for stage in recipe.stages]
    first, dots, last = (wanted or "..").partition("..")
    if not dots:
        last = first
    for name in (first, last):
        if name and name not in names:
            raise DataError(f"no stage {name!r}; there are: {', '.join(names)}")
    begin = names.index(first) if first else 0
    end = names.index(last) if last else len(names) - 1
    if begin > end:
        raise DataError(f"stage {first!r} comes after {last!r}")
    return list(recipe.stages[begin : end + 1])


def run_stages(
    recipe: Recipe, stages: Sequence[Stage], say: Callable[[str], None], force: bool = False
) -> list[str]:
    """Run the stages that are not done; returns the names of those that ran.

    Raises `DataError` where an input is missing, `StageError` where a command fails or an output
    is not there after it.
    """
    ran = []
    for stage in stages:
        for path in stage.inputs:
            if not path.exists():
                raise DataError(f"stage {stage.name}: no such input", path)
        mark = recipe.out / ".stages" / f"{stage.name}.json"
        state = stage_hash(recipe, stage)
        if not force and _read_mark(mark) == state and all(p.exists() for p in stage.outputs):
            say(f"stage {stage.name}: nothing changed, skipped")
            continue
        for command in stage.commands:
            say(f"stage {stage.name}: {_shown(command)}")
            recipe.out.mkdir(parents=True, exist_ok=True)
            code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
            if code:
                raise StageError(f"stage {stage.name}: exit code {code} of {_shown(command)}")
        for path in stage.outputs:
            if not path.exists():
                raise StageError(f"stage {stage.name} ended without its output {path}")
        # As they are now: a stage may have changed what it reads, a checkpoint say.
        write_whole(mark, json.dumps({"hash": stage_hash(recipe, stage)}) + "\n")
        ran.append(stage.name)
    return ran


def _shown(command: Sequence[str]) -> str:
    if tuple(command[1:3]) == ("-c", _UYIR):
        command = ("uyir", *command[3:])
    return " ".join(shlex.quote(word) for word in command)


def _read_mark(path: Path) -> Optional[str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["hash"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def stage_hash(recipe: Recipe, stage: Stage) -> str:
    """A hash of a stage's commands, of its inputs, and of the recipe's files that it names."""
    digest = hashlib.sha256(json.dumps(stage.commands).encode())
    named = {Path(word) for command in stage.commands for word in command}
    own = {p for p in named if recipe.folder in p.parents and p.is_file()}
    for path in sorted({*stage.inputs, *own}):
        for file in sorted(_files(path)):
            digest.update(str(file).encode(errors="surrogateescape"))
            digest.update(_content(file).encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [
        Path(folder) / name
        for folder, folders, names in os.walk(path)
        for name in names
        if not name.startswith(".")
    ]


def _content(path: Path) -> str:
    """What a file holds, by hash; of large files and audio by size and time, which is enough."""
    state = path.stat()
    if state.st_size > _HASHED_BYTES or path.suffix.lower() in (".wav", ".flac", ".mp3", ".i16"):
        return f"{state.st_size}/{state.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()
