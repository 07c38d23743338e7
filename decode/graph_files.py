"""Graph files: arrays in safetensors, packed, with a checksum; and OpenFst's binary format."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Union, cast

import numpy as np
import numpy.typing as npt

from uyir.decode.arcs import Arcs, Array, Floats, Ints
from uyir.decode.graph_splices import Splice
from uyir.errors import GraphError
from uyir.lexicon.symbols import table_bytes

FORMAT = "uyir-graph"
#: Raised whenever a reader of the older files would misread the newer ones. 1: arrays as they are;
#: 2: arrays packed by xz.
FORMAT_VERSION = 2
#: Smaller arrays are not worth packing (bytes).
_LEAST_PACKED = 1024


def write(path: Path, arcs: Arcs, splices: Sequence[Splice], about: dict[str, Any]) -> int:
    """Write arcs and splices with a header, ``about`` and what the arrays need; returns the bytes.

    A byte or two an ilabel; a bit each that says whether there is a word, a weight, a jump (a target
    other than the next state), and 4 bytes for each that there is, so arcs should be numbered depth
    first. Weights are rounded to a 16-bit fixed point whose step the header gives (at most 1/128 for
    costs up to 256). Arrays are packed by xz, to some 2/5.
    """
    import safetensors.numpy

    tensors, step = _encode(arcs, splices)
    packed = {
        name: [values.dtype.str, list(values.shape)]
        for name, values in tensors.items()
        if values.nbytes >= _LEAST_PACKED
    }
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "num_states": arcs.num_states,
        "num_arcs": arcs.num_arcs,
        "start": arcs.start,
        "weight_step": step,
        "splice_keys": sorted({s.key for s in splices}),
        "sha256": _digest(tensors),
        "packed": packed,
        **about,
    }
    stored = {
        name: _packed(values) if name in packed else values for name, values in tensors.items()
    }
    safetensors.numpy.save_file(
        stored, str(path), metadata={FORMAT: json.dumps(header, ensure_ascii=False)}
    )
    return path.stat().st_size


def read(path: Path, wanted: Iterable[str]) -> tuple[Arcs, tuple[Splice, ...], dict[str, Any]]:
    """Arcs, splices and header of a file of `write`; the header has all the keys that are wanted.

    Raises `GraphError` for a file that is missing, damaged, or of another format or version.
    """
    import safetensors

    if not path.is_file():
        raise GraphError(f"{path}: no such graph")
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            raw = (file.metadata() or {}).get(FORMAT)
            tensors = {} if raw is None else {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise GraphError(f"{path}: damaged, or not a graph ({error})") from None
    if raw is None:
        raise GraphError(f"{path}: a safetensors file, but not a graph")
    try:
        header = json.loads(raw)
        version = header["version"]
        if version not in range(1, FORMAT_VERSION + 1):
            raise GraphError(
                f"{path}: graph format {version}; this version of uyir reads up to {FORMAT_VERSION}"
            )
        for name, (kind, shape) in header.get("packed", {}).items():
            tensors[name] = _unpacked(tensors[name], kind, shape)
        if _digest(tensors) != header["sha256"]:
            raise GraphError(f"{path}: damaged: its arrays do not match their checksum")
        missing = sorted(set(wanted) - set(header))
        if missing:
            raise KeyError(missing[0])
        return (*_decode(tensors, header), header)
    except (KeyError, ValueError, IndexError, TypeError, EOFError, lzma.LZMAError) as error:
        raise GraphError(f"{path}: damaged: {type(error).__name__}: {error}") from None


def splice_keys(path: Path) -> frozenset[str]:
    """The keys of a graph file's splices, from its header alone. Raises `GraphError` as `read` does."""
    import safetensors

    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            return frozenset(json.loads((file.metadata() or {})[FORMAT])["splice_keys"])
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise GraphError(f"{path}: damaged, or not a graph ({error})") from None


def file_sha256(path: Union[str, Path]) -> str:
    """The hash that graphs keep of their tables, packed or not; raises `GraphError` if there is no such file."""
    try:
        return hashlib.sha256(table_bytes(path)).hexdigest()
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise GraphError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def openfst_bytes(arcs: Arcs) -> bytes:
    """The transducer in OpenFst's binary format: ``vector`` of ``standard`` arcs, version 2."""
    kind, arc_type = b"vector", b"standard"
    head = np.array([0x7EB2FDD6], dtype="<u4").tobytes()
    for name in (kind, arc_type):
        head += np.array([len(name)], dtype="<u4").tobytes() + name
    head += np.array([2, 0], dtype="<i4").tobytes()  # version, flags: no symbol tables
    # Properties: only what every VectorFst has (expanded, mutable); the rest is worked out on need.
    head += np.array([3, arcs.start, arcs.num_states, arcs.num_arcs], dtype="<i8").tobytes()

    # A state is three words of four bytes (final cost; number of arcs, 8 bytes), an arc is four.
    count = np.diff(arcs.offsets)
    body = np.empty(3 * arcs.num_states + 4 * arcs.num_arcs, dtype="<i4")
    at = 3 * np.arange(arcs.num_states) + 4 * arcs.offsets[:-1]
    body[at] = arcs.final.astype("<f4").view("<i4")
    body[at + 1] = count.astype("<i4")
    body[at + 2] = 0
    place = 3 * (arcs.source + 1) + 4 * np.arange(arcs.num_arcs)
    body[place] = arcs.ilabel
    body[place + 1] = arcs.olabel
    body[place + 2] = arcs.weight.astype("<f4").view("<i4")
    body[place + 3] = arcs.target
    return head + body.tobytes()


#: Weights are multiples of a power of two, the smallest that lets the greatest fit 16 bits.
_FINEST_STEP = 1.0 / 128


def weight_step(greatest: float) -> float:
    """The step of the fixed point that holds costs up to ``greatest`` in 16 bits, with sign."""
    step = _FINEST_STEP
    while greatest / step > 32767:
        step *= 2
    return step


def _narrow(values: Array, *types: Any) -> Array:
    """Values in the first of these unsigned types that holds them all."""
    top = int(values.max(initial=0))
    for kind in types:
        if top <= np.iinfo(kind).max:
            return values.astype(kind)
    raise GraphError(f"{top} does not fit a graph file")


def _encode(arcs: Arcs, splices: Sequence[Splice]) -> tuple[dict[str, Array], float]:
    costs = [arcs.weight, arcs.final[np.isfinite(arcs.final)]]
    greatest = max((float(np.abs(c).max()) for c in costs if len(c)), default=0.0)
    step = weight_step(greatest)

    def fixed(cost: Floats) -> npt.NDArray[np.int16]:
        return cast("npt.NDArray[np.int16]", np.rint(cost / step).astype(np.int16))

    weight = fixed(arcs.weight)
    jump = arcs.target != arcs.source + 1
    far = arcs.target[jump]
    words = arcs.olabel[arcs.olabel != 0]
    ending = np.flatnonzero(np.isfinite(arcs.final))
    keys = sorted({s.key for s in splices})
    tensors = {
        "degree": _narrow(np.diff(arcs.offsets), np.uint8, np.uint16, np.uint32),
        "ilabel": _narrow(arcs.ilabel, np.uint8, np.uint16),
        "has_olabel": np.packbits(arcs.olabel != 0),
        "olabel": _narrow(words, np.uint32),
        "has_weight": np.packbits(weight != 0),
        "weight": weight[weight != 0],
        "has_jump": np.packbits(jump),
        "jump": _narrow(far, np.uint32),
        "final_state": ending.astype(np.uint32),
        "final_weight": fixed(arcs.final[ending]),
        "splice_key": np.array([keys.index(s.key) for s in splices], dtype=np.uint16),
        "splice_context": np.array([s.context for s in splices], dtype=np.uint16),
        "splice_source": np.array([s.source for s in splices], dtype=np.uint32),
        "splice_target": np.array([s.target for s in splices], dtype=np.uint32),
        "splice_weight": np.array([s.weight for s in splices], dtype=np.float32),
    }
    return {name: np.ascontiguousarray(x) for name, x in tensors.items()}, step


def _decode(tensors: dict[str, Array], header: dict[str, Any]) -> tuple[Arcs, tuple[Splice, ...]]:
    states, count, step = header["num_states"], header["num_arcs"], header["weight_step"]

    def bits(name: str) -> npt.NDArray[np.bool_]:
        return np.unpackbits(tensors[name], count=count).astype(bool)

    source = np.repeat(np.arange(states, dtype=np.int64), tensors["degree"].astype(np.int64))
    olabel = np.zeros(count, dtype=np.int64)
    olabel[bits("has_olabel")] = _whole(tensors, "olabel")
    weight = np.zeros(count, dtype=np.float32)
    weight[bits("has_weight")] = tensors["weight"] * np.float32(step)
    target = source + 1
    target[bits("has_jump")] = _whole(tensors, "jump")
    final = np.full(states, np.inf, dtype=np.float32)
    final[tensors["final_state"].astype(np.int64)] = tensors["final_weight"] * np.float32(step)
    arcs = Arcs.build(source, target, tensors["ilabel"], olabel, weight, header["start"], final)
    keys = header["splice_keys"]
    splices = tuple(
        Splice(keys[key], context, source_, target_, cost)
        for key, context, source_, target_, cost in zip(
            *(
                tensors[f"splice_{name}"].tolist()
                for name in ("key", "context", "source", "target", "weight")
            )
        )
    )
    if any(max(s.source, s.target) >= states for s in splices):
        raise GraphError("a graph's splices are not among its states")
    return arcs, splices


def _whole(tensors: dict[str, Array], name: str) -> Ints:
    """Numbers of up to 32 bits; format 1 has the high bits apart, if there are any."""
    if name in tensors:
        return tensors[name].astype(np.int64)
    low, high = tensors[f"{name}_low"].astype(np.int64), tensors[f"{name}_high"].astype(np.int64)
    return low | high << 16 if len(high) else low


def _packed(values: Array) -> npt.NDArray[np.uint8]:
    """An array's bytes packed by xz; whole numbers pack best as they are, four bytes side by side."""
    return np.frombuffer(lzma.compress(values.tobytes(), preset=6), dtype=np.uint8)


def _unpacked(values: Array, kind: str, shape: Sequence[int]) -> Array:
    """What `_packed` packed, no more of it than the shape says; raises `ValueError` for anything else."""
    found = np.dtype(kind)
    size = int(np.prod(shape)) * found.itemsize
    data = lzma.LZMADecompressor().decompress(values.tobytes(), max_length=size + 1)
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} should be")
    return np.frombuffer(data, dtype=found).reshape(tuple(shape))


def _digest(tensors: dict[str, Array]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
