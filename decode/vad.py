"""Where speech is in a recording that comes in blocks: cut into stretches without holding it whole.

Three methods: ``silero`` (a small network whose weights the package silero-vad carries), ``energy``
(`uyir.decode.pauses`), and ``none``, which drops nothing and cuts where it is quietest. ``auto`` is
the first of them that can run here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from uyir.decode.pauses import (
    WHOLE_S,
    Pair,
    Samples,
    Stretch,
    cut_pairs,
    is_silence,
    loud_pairs,
)
from uyir.errors import ModelError

if TYPE_CHECKING:
    import torch

METHODS = ("auto", "silero", "energy", "none")
SAMPLE_RATE = 16000
#: A long recording is looked at in windows of so many seconds.
WINDOW_S = 300.0
_FRAME = 160  # samples: 10 ms, the unit of pairs
#: What is heard so near to a window's end may go on after it.
_OPEN_S = 2.0


@dataclass(frozen=True)
class Part:
    """A stretch of a recording with its samples; begin and end count samples of the recording."""

    stretch: Stretch
    samples: Samples


def resolve(method: str) -> str:
    """The method that ``auto`` stands for here; raises `ModelError` where `silero` is not installed."""
    if method == "auto":
        return "silero" if silero_weights() is not None else "energy"
    if method not in METHODS:
        raise ModelError(f"no voice activity detection {method!r}, want {', '.join(METHODS)}")
    if method == "silero" and silero_weights() is None:
        raise ModelError("silero-vad is not installed: pip install 'uyir[vad]', or --vad energy")
    return method


def parts_of(blocks: Iterable[Samples], method: str, longest_s: float = WHOLE_S) -> Iterator[Part]:
    """Cut a recording, in blocks of samples (16 kHz, mono), into parts of at most ``longest_s``.

    Parts come in order and do not overlap. A recording of at most ``longest_s`` is one part, left
    whole; silence beyond doubt gives none (unless ``none`` is the method). Of a longer one
    `WINDOW_S` and a little are held at a time. ``method`` is a resolved one.
    """
    find: Callable[[Samples], list[Pair]] = {
        "silero": lambda window: voiced_pairs(window),
        "energy": loud_pairs,
        "none": lambda window: [(0, -(-len(window) // _FRAME))],
    }[method]
    window = np.zeros(0, dtype=np.float32)
    begin = 0
    waiting: list[Samples] = []
    held = 0
    size = int(WINDOW_S * SAMPLE_RATE)
    for block in blocks:
        waiting.append(block)
        held += len(block)
        while held >= size:
            window = np.concatenate([window, *waiting])
            waiting, held = [], 0
            begin, window = yield from _flush(window, begin, find, longest_s, last=False)
    window = np.concatenate([window, *waiting])
    if begin == 0 and len(window) <= longest_s * SAMPLE_RATE:
        if len(window) and (method == "none" or not is_silence(window)):
            yield Part(Stretch(0, len(window)), window)
        return
    yield from _flush(window, begin, find, longest_s, last=True)


def _flush(
    window: Samples,
    begin: int,
    find: Callable[[Samples], list[Pair]],
    longest_s: float,
    last: bool,
) -> Generator[Part, None, tuple[int, Samples]]:
    """Yield a window's parts; returns (where the next window begins, what of this one it begins with)."""
    stretches = cut_pairs(window, find(window), longest_s)
    keep = len(window) - int(_OPEN_S * SAMPLE_RATE)
    if last:
        keep = len(window)
    elif stretches and stretches[-1].end > keep:
        keep = stretches.pop().begin
    for stretch in stretches:
        # A copy, so that the window is let go when its parts are.
        samples = window[stretch.begin : stretch.end].copy()
        yield Part(Stretch(begin + stretch.begin, begin + stretch.end), samples)
    return begin + keep, window[keep:].copy()


# --------------------------------------------------------------------------------------------------
# Silero

_CONVOLUTIONS = tuple(
    (f"encoder.{n}.reparam_conv", stride) for n, stride in enumerate((1, 2, 2, 1))
)
_LSTM = tuple(f"decoder.rnn.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
_NAMES = (
    "stft.forward_basis_buffer",
    *(f"{name}.{kind}" for name, _ in _CONVOLUTIONS for kind in ("weight", "bias")),
    *_LSTM,
    "decoder.decoder.2.weight",
    "decoder.decoder.2.bias",
)
_HOP = 512  # samples a probability
_CONTEXT = 64  # samples of the hop before that the network sees too
#: Speech begins above, and ends below, these probabilities; shorter things (s) are none.
_ON, _OFF = 0.5, 0.35
_LEAST_S, _GAP_S, _MARGIN_S = 0.2, 0.7, 0.3


def silero_weights() -> Optional[Path]:
    """The file of weights that the package silero-vad carries, None if it is not installed.

    The package itself is not imported: that would set torch to one thread.
    """
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        return None
    for folder in spec.submodule_search_locations:
        path = Path(folder) / "data" / "silero_vad.jit"
        if path.is_file():
            return path
    return None


def voiced_pairs(samples: Samples) -> list[Pair]:
    """Frame ranges (10 ms) with speech, by Silero, with a margin; neighbours may touch."""
    probabilities = speech_probabilities(samples)
    frames = -(-len(samples) // _FRAME)
    hop = _HOP / _FRAME
    pairs: list[Pair] = []
    start: Optional[int] = None
    for i, p in enumerate(probabilities.tolist()):
        if start is None and p >= _ON:
            start = i
        elif start is not None and p < _OFF:
            pairs.append((start, i))
            start = None
    if start is not None:
        pairs.append((start, len(probabilities)))
    joined: list[Pair] = []
    for first, after in pairs:
        if joined and (first - joined[-1][1]) * hop < 100 * _GAP_S:
            joined[-1] = (joined[-1][0], after)
        else:
            joined.append((first, after))
    margin = round(100 * _MARGIN_S)
    return [
        (max(0, int(first * hop) - margin), min(frames, int(after * hop) + margin))
        for first, after in joined
        if (after - first) * hop >= 100 * _LEAST_S
    ]


def speech_probabilities(samples: Samples) -> npt.NDArray[np.float32]:
    """The probability of speech in each 32 ms of samples (S,) at 16 kHz: (ceil(S / 512),).

    The network of silero-vad 6 at 16 kHz: a short-time spectrum, four convolutions a hop, and one LSTM
    along the hops. As all hops are known, the convolutions run over all of them at once.
    """
    import torch
    from torch.nn import functional

    weights = _silero()
    hops = -(-len(samples) // _HOP)
    if not hops:
        return np.zeros(0, dtype=np.float32)
    padded = np.zeros(_CONTEXT + hops * _HOP, dtype=np.float32)
    padded[_CONTEXT : _CONTEXT + len(samples)] = samples
    with torch.no_grad():
        # Each hop with the end of the one before it.
        x = torch.from_numpy(padded).unfold(0, _HOP + _CONTEXT, _HOP)
        states = []
        for some in torch.split(x, 1024):
            y = functional.pad(some[:, None], (0, _CONTEXT), mode="reflect")
            y = functional.conv1d(y, weights["stft.forward_basis_buffer"], stride=128)
            half = y.shape[1] // 2
            y = (y[:, :half] ** 2 + y[:, half:] ** 2).sqrt()
            for name, stride in _CONVOLUTIONS:
                weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
                y = functional.conv1d(y, weight, bias, stride=stride, padding=1).relu()
            states.append(y[..., 0])
        along = [weights[name] for name in _LSTM]
        zero = torch.zeros(1, 1, along[1].shape[1])
        hidden, _, _ = torch.lstm(
            torch.cat(states)[:, None], (zero, zero), along, True, 1, 0.0, False, False, False
        )
        weight, bias = weights["decoder.decoder.2.weight"], weights["decoder.decoder.2.bias"]
        y = functional.conv1d(hidden[:, 0, :, None].relu(), weight, bias)
        return np.asarray(torch.sigmoid(y)[:, 0, 0].numpy(), dtype=np.float32)


@lru_cache(maxsize=1)
def _silero() -> dict[str, torch.Tensor]:
    """The weights by name. The package's TorchScript file is read for them alone; it is code that the
    user installed, like the package itself."""
    import torch

    path = silero_weights()
    if path is None:
        raise ModelError("silero-vad is not installed: pip install 'uyir[vad]', or --vad energy")
    try:
        load: Any = torch.jit.load
        state = load(str(path), map_location="cpu").state_dict()
        return {name: state[f"_model.{name}"].float() for name in _NAMES}
    except (RuntimeError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path}: not the weights of silero-vad 5 or 6: {reason}") from None
