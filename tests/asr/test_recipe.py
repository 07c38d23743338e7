"""Recipes: stages that are skipped, run again and refused; the corpora's own layouts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner, Result

from uyir.asr.config import read_config
from uyir.asr.corpus_commands import corpus as corpus_command
from uyir.asr.corpus_commands import recipe as recipe_command
from uyir.asr.data import Loader, read_manifest
from uyir.asr.mile import find_root, prepare_mile
from uyir.asr.recipe import (
    StageError,
    choose_stages,
    find_recipe,
    list_recipes,
    read_recipe,
    run_stages,
)
from uyir.errors import DataError
from uyir.lexicon.symbols import tokens_table

COPY = (
    "import sys; a, b = sys.argv[1:3]; open(b, 'w').write(open(a).read().upper());"
    "open(b + '.log', 'a').write('x')"
)


def quiet(line: str) -> None:
    pass


def make_recipe(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "copy.py").write_text(COPY)
    command = ["{python}", "{recipe}/copy.py"]
    values = {
        "summary": "copies",
        "settings": {"corpus": None},
        "stages": [
            {
                "name": "one",
                "run": [[*command, "{corpus}", "{out}/one"]],
                "inputs": ["{corpus}"],
                "outputs": ["{out}/one"],
            },
            {
                "name": "two",
                "run": [[*command, "{out}/one", "{out}/two"]],
                "inputs": ["{out}/one"],
                "outputs": ["{out}/two"],
            },
        ],
        **changes,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_stages_run_when_their_inputs_changed(tmp_path: Path) -> None:
    folder, corpus = make_recipe(tmp_path / "r"), tmp_path / "c"
    corpus.write_text("abc")

    def go(stage: str = "..", force: bool = False) -> list[str]:
        recipe = read_recipe(folder, tmp_path / "out", {"corpus": str(corpus)})
        return run_stages(recipe, choose_stages(recipe, stage), quiet, force)

    assert go() == ["one", "two"]
    assert (tmp_path / "out/two").read_text() == "ABC"
    assert go() == []
    corpus.write_text("abd")
    assert go("one") == ["one"]
    assert go() == ["two"]
    # The same result again: the next stage has nothing to do.
    corpus.write_text("ABD")
    assert go() == ["one"]
    (folder / "copy.py").write_text(COPY + "\n")
    assert go("two..") == ["two"]
    (tmp_path / "out/two").unlink()
    assert go() == ["one", "two"]
    assert go("two", force=True) == ["two"]


def test_what_goes_wrong_is_named(tmp_path: Path) -> None:
    folder = make_recipe(tmp_path / "r")
    with pytest.raises(DataError, match="give --set corpus="):
        read_recipe(folder, tmp_path / "out", {})
    with pytest.raises(DataError, match="no setting 'colour'; there are: corpus"):
        read_recipe(folder, tmp_path / "out", {"colour": "red"})
    recipe = read_recipe(folder, tmp_path / "out", {"corpus": str(tmp_path / "none")})
    with pytest.raises(DataError, match="none: stage one: no such input"):
        run_stages(recipe, recipe.stages, quiet)
    for wanted, message in (("three", "no stage 'three'"), ("two..one", "comes after")):
        with pytest.raises(DataError, match=message):
            choose_stages(recipe, wanted)
    failing = {"name": "one", "run": [["{python}", "-c", "raise SystemExit(3)"]]}
    recipe = read_recipe(make_recipe(tmp_path / "r", stages=[failing]), tmp_path / "out", {})
    with pytest.raises(StageError, match="stage one: exit code 3"):
        run_stages(recipe, recipe.stages, quiet)
    lazy = {"name": "one", "run": [["{python}", "-c", ""]], "outputs": ["{out}/x"]}
    recipe = read_recipe(make_recipe(tmp_path / "r", stages=[lazy]), tmp_path / "out", {})
    with pytest.raises(StageError, match="ended without its output"):
        run_stages(recipe, recipe.stages, quiet)
    with pytest.raises(DataError, match=r"no such recipe; there are: .*mile_tamil"):
        find_recipe("nowhere")


def test_a_shell_sees_nothing_of_a_setting(tmp_path: Path) -> None:
    folder, corpus = make_recipe(tmp_path / "r"), tmp_path / "a; touch b $(touch c)"
    corpus.write_text("x")
    recipe = read_recipe(folder, tmp_path / "out", {"corpus": str(corpus)})
    assert run_stages(recipe, recipe.stages, quiet) == ["one", "two"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a; touch b $(touch c)", "out", "r"]


@pytest.mark.parametrize("folder", list_recipes(), ids=lambda folder: str(folder.name))
def test_recipes_that_come_with_it_are_sound(folder: Path, tmp_path: Path) -> None:
    """Every setting is used and known, every script and configuration is there."""
    text = (folder / "recipe.yaml").read_text()
    settings = yaml.safe_load(text)["settings"]
    for name in settings:
        assert f"{{{name}}}" in text, name
    recipe = read_recipe(folder, tmp_path, {n: "x" for n, v in settings.items() if v is None})
    assert recipe.summary
    for stage in recipe.stages:
        assert stage.inputs and stage.outputs
        for command in stage.commands:
            assert command[0] == sys.executable
            for word in command:
                if word.endswith((".py", ".yaml")):
                    assert Path(word).is_file(), word
                if word.endswith(".yaml"):
                    config = read_config(word, tmp_path)
                    for source in config.train:
                        assert Path(source.manifest).is_relative_to(tmp_path)
    assert (folder / "README.md").is_file()
    assert {p.name for p in list_recipes()} >= {
        "synthetic",
        "mile_tamil",
        "mile_kannada",
        "common_voice",
        "folder",
    }


# -- layouts ---------------------------------------------------------------------------------

TEXTS = {"ta": "மழை வந்தது", "kn": "ಮಳೆ ಬಂತು"}


def sound(path: Path, seconds: float = 1.0, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.sin(np.arange(round(rate * seconds)) / 5)
    soundfile.write(str(path), wave, rate)


def make_mile(root: Path, language: str) -> None:
    """Speakers 0 to 11 in train, 8 to 19 in test, three utterances each."""
    for part, first in (("train", 0), ("test", 8)):
        for number in range(first, first + 12):
            for utterance in range(3):
                name = (
                    f"ISTL_{number:07d}_{utterance:07d}"
                    if language == "ta"
                    else f"MILE_03_SP_{number:04d}_UTT_{utterance:04d}"
                )
                sound(root / part / "audio_files" / f"{name}.wav", 0.6)
                path = root / part / "trans_files" / f"{name}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(TEXTS[language] + "\n", encoding="utf-8")
        # ids are one name space: the same name in both parts is another recording
    sound(root / "train/audio_files/alone_1_1.wav")


def speakers_of(path: Path) -> set[str]:
    lines = path.with_name(path.stem + ".speakers.tsv").read_text().splitlines()[1:]
    return {line.split("\t")[1] for line in lines}


@pytest.mark.parametrize("language", ["ta", "kn"])
@pytest.mark.parametrize("wrapped", ["", "some/wrapper"])
def test_mile(tmp_path: Path, language: str, wrapped: str) -> None:
    make_mile(tmp_path / "corpus" / wrapped, language)
    said: list[str] = []
    prepare_mile(tmp_path / "corpus", language, tmp_path / "out", said.append)
    rows = {
        f"{name}/{part}": read_manifest(
            tmp_path / "out" / name / f"{part}.tsv", list(tokens_table())
        )
        for name in ("official", "disjoint")
        for part in ("train", "dev", "test")
    }
    assert len(rows["official/test"]) == 36
    assert len(rows["official/train"]) + len(rows["official/dev"]) == 36
    assert rows["official/dev"] == rows["disjoint/dev"]
    assert 0 < len(rows["disjoint/test"]) < 36
    parts = [speakers_of(tmp_path / "out/disjoint" / f"{p}.tsv") for p in ("train", "dev", "test")]
    for number, one in enumerate(parts):
        for two in parts[number + 1 :]:
            assert one and two and not one & two
    assert not speakers_of(tmp_path / "out/official/train.tsv") & parts[1]
    assert "speakers: 12 in train, 12 in test, 4 in both" in said
    assert "alone_1_1" in (tmp_path / "out/left_out.tsv").read_text()
    assert any("audio without transcript" in line for line in said)
    if language == "ta":
        assert any("36 of 77314 utterances: not the whole corpus?" in line for line in said)


def test_mile_that_is_not_unpacked_whole(tmp_path: Path) -> None:
    archive = tmp_path / "mile.tar.gz"
    archive.write_bytes(b"")
    with pytest.raises(DataError, match="an archive: unpack it"):
        find_root(archive)
    with pytest.raises(DataError, match="no such folder"):
        find_root(tmp_path / "none")
    with pytest.raises(DataError, match="no folder train or test"):
        find_root(tmp_path)
    (tmp_path / "c/train/audio_files").mkdir(parents=True)
    with pytest.raises(DataError, match="train/trans_files: missing: the corpus is not unpacked"):
        find_root(tmp_path)
    for part in ("train", "test"):
        for kind in ("audio_files", "trans_files"):
            (tmp_path / "c" / part / kind).mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match="no recording with a transcript"):
        prepare_mile(tmp_path, "ta", tmp_path / "out", quiet)


def call(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_common_voice(tmp_path: Path) -> None:
    release = tmp_path / "ta"
    for part, count in (("train", 3), ("dev", 1), ("test", 1)):
        lines = ["client_id\tpath\tsentence\tup_votes\tlocale"]
        for number in range(count):
            name = f"common_voice_ta_{part}{number}"
            # As in a release, MP3 of 48 kHz, where libsndfile writes it.
            suffix = "mp3" if "MP3" in soundfile.available_formats() else "wav"
            sound(release / "clips" / f"{name}.{suffix}", rate=48000)
            lines.append(f'spk{part}\t{name}.{suffix}\t{TEXTS["ta"]} "a"\t2\tta')
        lines.append(f"spk{part}\tmissing_{part}.wav\t{TEXTS['ta']}\t2\tta")
        (release / f"{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = call(corpus_command, "common-voice", release, "--out", tmp_path / "out", "-l", "ta")
    assert result.exit_code == 0, result.output
    rows = read_manifest(tmp_path / "out/train.tsv", list(tokens_table()))
    assert [u.id for u in rows] == [f"common_voice_ta_train{n}" for n in range(3)]
    assert all(abs(u.duration - 1.0) < 0.1 for u in rows)
    batch = next(Loader(rows, ["ta"]).load([[0, 1, 2]], 0))
    assert all(abs(length - 16000) < 1600 for length in batch.lengths.tolist())
    assert "3 transcript without audio" in result.output
    (release / "test.tsv").unlink()
    result = call(corpus_command, "common-voice", release, "--out", tmp_path / "o2")
    assert isinstance(result.exception, DataError)
    assert "missing from the release" in str(result.exception)


def test_the_folder_recipe_prepares(tmp_path: Path) -> None:
    for number in range(40):
        sound(tmp_path / "mine" / f"u{number:02d}.wav")
        (tmp_path / "mine" / f"u{number:02d}.txt").write_text(TEXTS["kn"], encoding="utf-8")
    (tmp_path / "mine/u03.wav").write_bytes(b"no sound")
    arguments = ("run", "folder", "--stage", "prepare", "--out", tmp_path / "out")
    settings = ("--set", f"corpus={tmp_path / 'mine'}", "--set", "language=kn")
    result = call(recipe_command, *arguments, *settings)
    assert result.exit_code == 0, result.output
    assert "1 stages run (prepare)" in result.output
    sizes = {}
    for part in ("train", "dev", "test"):
        rows = read_manifest(tmp_path / "out/data" / f"{part}.tsv", list(tokens_table()))
        sizes[part] = len(rows)
    assert sizes == {"train": 35, "dev": 2, "test": 2}
    assert "unreadable audio" in (tmp_path / "out/data/left_out.tsv").read_text()
    result = call(recipe_command, *arguments, *settings)
    assert "nothing changed, skipped" in result.output
    assert "0 stages run" in result.output


@pytest.mark.parametrize("kind", ["kaldi", "nemo", "lhotse", "tsv"])
def test_convert(tmp_path: Path, kind: str) -> None:
    sound(tmp_path / "mine/a.wav")
    (tmp_path / "mine/a.txt").write_text(TEXTS["kn"], encoding="utf-8")
    result = call(
        corpus_command, "convert", tmp_path / "mine", "--to", kind, "--out", tmp_path / "x"
    )
    assert result.exit_code == 0, result.output
    names = {
        "kaldi": {"wav.scp", "text", "utt2spk", "spk2utt", "utt2lang"},
        "nemo": {"manifest.jsonl"},
        "lhotse": {"cuts.jsonl"},
        "tsv": {"manifest.tsv"},
    }
    assert {p.name for p in (tmp_path / "x").iterdir()} == names[kind]


def test_recipes_are_listed() -> None:
    result = call(recipe_command, "list")
    assert result.exit_code == 0
    assert "mile_tamil: IISc-MILE Tamil" in result.output
    assert "stages: sentences speak train export graph score" in result.output
