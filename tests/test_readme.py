"""The documents tell the truth: commands exist, examples run and print what the README shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from uyir import cli

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "RESULTS.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """(command, output) of every `$ uyir ...` in the README's console blocks."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for command in re.findall(r"(?:`|bin/|^\$? ?)uyir ([a-z]+)", text, re.MULTILINE):
        assert command in cli.COMMANDS, f"{name} speaks of uyir {command}"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name}: make {target}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_named_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"`([\w./]+\.(?:md|txt|tsv|toml|py))`", text):
        exists = (ROOT / path).exists() or list(ROOT.glob(f"grammar/*/**/{path}"))
        assert exists or list(ROOT.glob(f"lexicon/*/{path}")), f"{name} speaks of {path}"


def test_every_command_is_in_the_readme() -> None:
    for name in cli.COMMANDS:
        assert f"`uyir {name}`" in README


def test_there_are_examples() -> None:
    assert len(examples()) >= 3


@pytest.mark.parametrize(
    ("command", "output"),
    [example for example in examples() if not example[0].startswith("make")],
)
def test_examples_print_what_the_readme_shows(
    command: str,
    output: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command)
    assert program == "uyir"
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == output


@pytest.mark.parametrize("code", [b for b in blocks("python") if "recogniser" not in b])
def test_python_examples_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})
