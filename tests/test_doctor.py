"""`uyir doctor`: keys that programs rely on, and what it says of damaged installations."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from uyir import LANGUAGES, __version__, cli, doctor


def test_json_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert list(report) == [
        "uyir",
        "python",
        "platform",
        "packages",
        "torch",
        "engines",
        "default_engine",
        "gpu_engine",
        "why_engine",
        "models",
        "programs",
        "ok",
        "why_not",
    ]
    for key in report:
        assert f"``{key}``" in (doctor.__doc__ or ""), f"{key} is not documented"
    assert report["uyir"] == __version__
    assert set(report["packages"]["torch"]) == {"version", "needed_for", "required", "install"}
    assert set(report["torch"]) == {"version", "cuda", "devices", "error"}
    assert set(report["programs"]["espeak-ng"]) == {"path", "needed_for", "install"}
    assert {"kaldi", "k2"} <= set(report["engines"])
    assert report["engines"][report["default_engine"]] is None
    assert "fastest" in report["why_engine"][report["default_engine"]]
    assert report["ok"] is (code == 0)
    assert report["ok"] is not bool(report["why_not"])


def test_what_is_missing_comes_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(doctor.PACKAGES, "no-such-package", ("nothing", True))
    report = doctor.examine()
    assert not report.ok
    assert "no-such-package is not installed" in report.why_not
    assert report.packages["no-such-package"].install == "pip install no-such-package"
    assert report.programs["espeak-ng"].path is None
    text = doctor.describe(report)
    assert "apt-get install espeak-ng" in text
    assert "no-such-package: MISSING" in text
    assert text.splitlines()[-1].startswith("uyir transcribe cannot run here: ")


def whole_model(folder: Path) -> Path:
    for language in LANGUAGES:
        (folder / language).mkdir(parents=True)
        for name in ("words.txt", "HLG.safetensors", "meta.json"):
            (folder / language / name).write_bytes(b"x")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    for name in ("tokens.txt", "README.md"):
        (folder / name).write_bytes(b"x")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_whole_model_and_damaged_ones(tmp_path: Path) -> None:
    whole_model(tmp_path / "whole")
    (whole_model(tmp_path / "headless") / "model.safetensors").unlink()
    (whole_model(tmp_path / "half") / "kn" / "HLG.safetensors").unlink()
    for name, parts in (("parts", b"12"), ("part", b"1")):
        (whole_model(tmp_path / name) / "model.safetensors").unlink()
        for number in parts.decode():
            part = tmp_path / name / f"model-0000{number}-of-00002.safetensors"
            part.write_text(number, encoding="utf-8")
    for name, graphs in (("shared", "whole"), ("astray", "lost")):
        config = json.dumps({"graphs": graphs})
        whole_model(tmp_path / name)
        (tmp_path / name / "config.json").write_text(config, encoding="utf-8")
        for language in LANGUAGES:
            shutil.rmtree(tmp_path / name / language)
    found = doctor.find_models(tmp_path)
    assert list(found) == ["astray", "half", "headless", "part", "parts", "shared", "whole"]
    assert found["whole"].problems == ()
    assert found["whole"].languages == ("kn", "ta")
    assert found["whole"].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert found["whole"].bytes == 6 + 2 + 2 + len(b"weights")
    assert found["headless"].problems == ("no model.safetensors",)
    assert found["headless"].sha256 is None
    assert found["parts"].problems == ()
    assert found["parts"].sha256 == hashlib.sha256(b"12").hexdigest()
    assert found["part"].problems == ("1 of 2 parts of the weights",)
    assert found["shared"].problems == ()
    assert found["shared"].languages == ("kn", "ta")
    assert "lost" in found["astray"].problems[0]
    assert found["half"].problems == ("no kn/HLG.safetensors",)
    assert found["half"].languages == ("ta",)


def test_no_models_folder(tmp_path: Path) -> None:
    assert doctor.find_models(tmp_path / "none") == {}
