"""Link the packages into a folder in the shape they have when installed: uyir/, uyir/grammar/, ..."""

from __future__ import annotations

import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent


def main(folder: Path) -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]
    package_dir: dict[str, str] = setuptools["package-dir"]
    wanted: dict[Path, Path] = {}
    for package in sorted(package_dir):
        target = ROOT / package_dir[package]
        if not (target / "__init__.py").exists():
            continue  # the recipes: scripts, never imported
        if "." in package:
            wanted[folder / package.replace(".", "/")] = target
        else:
            for entry in target.iterdir():
                if entry.suffix in {".py", ".pyi", ".typed"}:
                    wanted[folder / package / entry.name] = entry
    for stale in folder.glob("*/*"):
        if stale.is_symlink() and stale not in wanted:
            stale.unlink()
    for link, target in wanted.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
