"""`uyir doctor`: what is installed, which engines can run and why not, which models are there.

With ``--json`` one object; programs may rely on these keys:

- ``uyir``, ``python``, ``platform``: versions;
- ``packages``: name → {``version`` (null when missing), ``needed_for``, ``required``, ``install``};
- ``torch``: {``version``, ``cuda`` (the build's CUDA or null), ``devices`` (GPU names), ``error``};
- ``engines``: name → null when it can run, else the reason why not;
- ``default_engine``: the one that `uyir transcribe` takes on this machine's CPU, or null;
- ``gpu_engine``: the one that it takes with ``--device cuda``, null without a GPU;
- ``why_engine``: engine → why it is one of these two;
- ``models``: name → {``path``, ``bytes``, ``sha256`` (of the weights, parts in order), ``languages``, ``problems``};
- ``programs``: name → {``path`` (null when missing), ``needed_for``, ``install``};
- ``ok``: whether transcription can run here: the required packages, an engine and a whole model;
- ``why_not``: what is lacking for that, a text each.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Optional

import click

from uyir import __version__
from uyir.errors import UyirError

MODELS = Path(__file__).parent / "models"

# distribution → (what needs it, whether transcription does)
PACKAGES: dict[str, tuple[str, bool]] = {
    "torch": ("everything that computes", True),
    "torchaudio": ("the acoustic model", True),
    "numpy": ("everything that computes", True),
    "safetensors": ("models and graphs on disk", True),
    "soundfile": ("reading audio", True),
    "soxr": ("reading audio of other rates", True),
    "kaldi-native-fbank": ("features on a CPU", True),
    "kaldifst": ("the kaldi engine", True),
    "kaldi-decoder": ("the kaldi engine", True),
    "kaldialign": ("uyir score", True),
    "rapidfuzz": ("uyir score", True),
    "rich": ("tables of uyir score", True),
    "click": ("commands", True),
    "pynini": ("compiling grammars, lexica and graphs", False),
    "lhotse": ("preparing corpora for training", False),
    "transformers": ("training from an encoder of the Hugging Face hub", False),
    "k2": ("the k2 engine", False),
    "kaldifeat": ("features on a GPU by Kaldi's own code", False),
}
EXTRAS = {
    "pynini": "pip install 'uyir[build]'",
    "lhotse": "pip install 'uyir[train]'",
    "transformers": "pip install 'uyir[hub]'",
}
ELSEWHERE = {
    "k2": "Python 3.9: pip install 'uyir[k2]'; newer ones: k2's own wheels for your torch",
    "kaldifeat": "its own wheels for your torch",
}
# program → (what needs it, Debian's package)
PROGRAMS: dict[str, tuple[str, str]] = {
    "espeak-ng": ("making synthetic speech to train on", "espeak-ng"),
    "sctk": ("checking scores against sclite, NIST's scorer", "sctk"),
    "chromium": ("looking at uyir score's page in tests", "chromium"),
    "dot": ("drawing graphs", "graphviz"),
    "ffmpeg": ("audio that libsndfile does not read (m4a, webm), codecs in augmentation", "ffmpeg"),
}


@dataclass(frozen=True)
class Package:
    """An installed or missing Python package."""

    version: Optional[str]
    needed_for: str
    required: bool
    install: Optional[str]


@dataclass(frozen=True)
class Program:
    """A program of the operating system, found or missing."""

    path: Optional[str]
    needed_for: str
    install: Optional[str]


@dataclass(frozen=True)
class Torch:
    """What torch can compute on; `error` says why it did not import."""

    version: Optional[str] = None
    cuda: Optional[str] = None
    devices: tuple[str, ...] = ()
    error: Optional[str] = None


@dataclass(frozen=True)
class Model:
    """A model folder: its size, the hash of its weights, its languages, what is wrong with it."""

    path: str
    bytes: int
    sha256: Optional[str]
    languages: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All that `uyir doctor` says; the keys of its JSON are these fields."""

    uyir: str
    python: str
    platform: str
    packages: Mapping[str, Package]
    torch: Torch
    engines: Mapping[str, Optional[str]]
    default_engine: Optional[str]
    gpu_engine: Optional[str]
    why_engine: Mapping[str, str]
    models: Mapping[str, Model]
    programs: Mapping[str, Program]
    ok: bool
    why_not: tuple[str, ...]


def find_packages() -> dict[str, Package]:
    found = {}
    for name, (needed_for, required) in PACKAGES.items():
        try:
            version: Optional[str] = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = None
        how = EXTRAS.get(name) or ELSEWHERE.get(name) or f"pip install {name}"
        found[name] = Package(version, needed_for, required, None if version else how)
    return found


def find_programs() -> dict[str, Program]:
    found = {}
    for name, (needed_for, package) in PROGRAMS.items():
        path = shutil.which(name)
        how = None if path else f"apt-get install {package}"
        found[name] = Program(path, needed_for, how)
    return found


def look_at_torch() -> Torch:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Torch(error=str(error))
    devices: tuple[str, ...] = ()
    if torch.cuda.is_available():
        devices = tuple(
            torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
        )
    return Torch(version=str(torch.__version__), cuda=torch.version.cuda, devices=devices)


def find_engines() -> dict[str, Optional[str]]:
    try:
        engines = importlib.import_module("uyir.decode.engines")
    except (ImportError, OSError) as error:
        return {"kaldi": f"uyir.decode.engines does not import: {error}"}
    return dict(engines.available())


def choose_engine(engines: Mapping[str, Optional[str]], device: str = "cpu") -> Optional[str]:
    """What transcription takes where it is not told, or None where no engine can run."""
    if all(engines.values()):
        return None
    from uyir.decode.engines import choose

    try:
        return choose(device)
    except UyirError:
        return None


def why_engines(engines: Mapping[str, Optional[str]], gpu: bool) -> dict[str, str]:
    """Why each engine that is chosen is."""
    reasons: dict[str, str] = {}
    for device in ("cpu", "cuda") if gpu else ("cpu",):
        name = choose_engine(engines, device)
        if name is not None:
            from uyir.decode.engines import why_chosen

            reasons[name] = why_chosen(device)
    return reasons


def look_at_model(folder: Path) -> Model:
    """Look at a model folder without loading it: which files are there, and what they weigh."""
    problems = [
        f"no {name}"
        for name in ("config.json", "tokens.txt", "README.md")
        if not (folder / name).is_file()
    ]
    weights = sorted(folder.glob("model*.safetensors"))
    total = weights[-1].stem.rpartition("-of-")[2] if weights else ""
    if not weights:
        problems.append("no model.safetensors")
    elif total.isdigit() and int(total) != len(weights):
        problems.append(f"{len(weights)} of {int(total)} parts of the weights")
    digest = hashlib.sha256()
    for path in weights:
        digest.update(path.read_bytes())
    languages, lacking = look_at_graphs(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Model(
        path=str(folder),
        bytes=size,
        sha256=digest.hexdigest() if weights else None,
        languages=tuple(languages),
        problems=(*problems, *lacking),
    )


def look_at_graphs(folder: Path) -> tuple[list[str], list[str]]:
    """The languages whose graph is whole, and what is lacking of the others."""
    try:
        from uyir.decode.transcribe import graph_folder
        from uyir.lexicon.symbols import table_file

        graphs = graph_folder(folder)
    except (ImportError, OSError, UyirError) as error:
        return [], [str(error)]
    languages, problems = [], []
    for entry in sorted(path for path in graphs.iterdir() if path.is_dir()):
        lacking = [
            f"no {entry.name}/{name}"
            for name in ("words.txt", "HLG.safetensors", "meta.json")
            if not table_file(entry / name).is_file()
        ]
        problems += lacking
        if not lacking:
            languages.append(entry.name)
    if not languages:
        problems.append("no language's graph is whole")
    return languages, problems


def find_models(models: Path = MODELS) -> dict[str, Model]:
    if not models.is_dir():
        return {}
    return {
        folder.name: look_at_model(folder)
        for folder in sorted(models.iterdir())
        if folder.is_dir() and not folder.name.startswith((".", "_"))
    }


def examine() -> Report:
    """Look at this machine and installation; imports torch, changes nothing."""
    packages, torch = find_packages(), look_at_torch()
    engines, models = find_engines(), find_models()
    why_not = [
        f"{name} is not installed"
        for name, package in packages.items()
        if package.required and not package.version
    ]
    if torch.error:
        why_not.append("torch does not import")
    if all(engines.values()):
        why_not.append("no engine can run")
    if all(model.problems for model in models.values()):
        why_not.append("no model is there and whole")
    return Report(
        uyir=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages,
        torch=torch,
        engines=engines,
        default_engine=choose_engine(engines),
        gpu_engine=choose_engine(engines, "cuda") if torch.devices else None,
        why_engine=why_engines(engines, bool(torch.devices)),
        models=models,
        programs=find_programs(),
        ok=not why_not,
        why_not=tuple(why_not),
    )


def describe(report: Report) -> str:
    """The report for people, a line a thing."""
    lines = [f"uyir {report.uyir}, Python {report.python}, {report.platform}", "", "packages"]
    for name, package in report.packages.items():
        if package.version:
            lines.append(f"  {name} {package.version}")
        else:
            need = "MISSING, needed for" if package.required else "not installed, for"
            lines.append(f"  {name}: {need} {package.needed_for}; {package.install}")
    torch = report.torch
    lines += ["", "torch"]
    if torch.error:
        lines.append(f"  does not import: {torch.error}")
    else:
        built = f"CUDA {torch.cuda}" if torch.cuda else "no CUDA"
        lines.append(f"  {torch.version}, built for {built}")
        lines += [f"  GPU: {name}" for name in torch.devices] or ["  no GPU here; the CPU serves"]
    lines += ["", "engines"]
    for name, reason in report.engines.items():
        chosen = name in (report.default_engine, report.gpu_engine)
        default = f" (default: {report.why_engine.get(name, 'chosen')})" if chosen else ""
        verdict = "can run" + default if reason is None else f"cannot run: {reason}"
        lines.append(f"  {name}: {verdict}")
    lines += ["", "models"]
    for name, model in report.models.items():
        lines.append(
            f"  {name}: {', '.join(model.languages) or 'no language'};"
            f" {model.bytes / 2**20:.1f} MiB; sha256 {(model.sha256 or 'none')[:16]}; {model.path}"
        )
        lines += [f"    problem: {problem}" for problem in model.problems]
    if not report.models:
        lines.append(f"  none in {MODELS}")
    lines += ["", "programs"]
    for name, program in report.programs.items():
        if program.path:
            lines.append(f"  {name}: {program.path}")
        else:
            lines.append(f"  {name}: not installed, for {program.needed_for}; {program.install}")
    verdict = "can run here" if report.ok else f"cannot run here: {'; '.join(report.why_not)}"
    lines += ["", f"uyir transcribe {verdict}"]
    return "\n".join(lines)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def doctor(as_json: bool) -> int:
    """Say what is installed, which engines can run and why not, and which models are there.

    The exit code is 1 when nothing can be transcribed here.
    """
    report = examine()
    click.echo(json.dumps(asdict(report), ensure_ascii=False) if as_json else describe(report))
    return 0 if report.ok else 1
