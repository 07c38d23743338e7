"""log_probs of `spoken_set.py` as small files, to carry from one machine to another, and back.

    python benchmarks/spoken_pack.py pack exp/units packed      # every heard/MODEL/PART/CONDITION of every language
    python benchmarks/spoken_pack.py unpack packed exp/units

A natural logarithm is kept as a byte, ``57 sqrt(-x)`` rounded: fine near 0, and nothing below -20.
"""

from __future__ import annotations

import lzma
import sys
from pathlib import Path

import numpy as np

_FINE = 57.0
#: Bytes of one file, before they are packed.
_PIECE = 40_000_000


def pack(root: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(root.glob("*/heard/*/*/*.f16")):
        name = "+".join(path.relative_to(root).with_suffix("").parts)
        (out / f"{name}.json.xz").write_bytes(lzma.compress(path.with_suffix(".json").read_bytes()))
        values = np.fromfile(path, dtype="<f2").astype(np.float32)
        small = np.minimum(np.rint(_FINE * np.sqrt(np.maximum(0, -values))), 255).astype(np.uint8)
        for number, at in enumerate(range(0, len(small), _PIECE)):
            packed = lzma.compress(small[at : at + _PIECE].tobytes(), preset=1)
            (out / f"{name}+{number:02d}.u8.xz").write_bytes(packed)


def unpack(out: Path, root: Path) -> None:
    for index in sorted(out.glob("*.json.xz")):
        name = index.name[: -len(".json.xz")]
        path = root.joinpath(*name.split("+"))
        path.parent.mkdir(parents=True, exist_ok=True)
        pieces = [lzma.decompress(p.read_bytes()) for p in sorted(out.glob(f"{name}+*.u8.xz"))]
        small = np.frombuffer(b"".join(pieces), dtype=np.uint8).astype(np.float32)
        (-((small / _FINE) ** 2)).astype("<f2").tofile(path.with_name(path.name + ".f16"))
        path.with_name(path.name + ".json").write_bytes(lzma.decompress(index.read_bytes()))


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("pack", "unpack"):
        sys.exit(__doc__)
    {"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
