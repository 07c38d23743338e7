from __future__ import annotations

import numpy as np
import pytest

from uyir.decode import vad
from uyir.decode.pauses import levels
from uyir.decode.vad import parts_of, resolve, silero_weights, speech_probabilities, voiced_pairs
from uyir.errors import ModelError

RATE = 16000


def stretches(samples, method="energy", block=50_000):
    blocks = (samples[i : i + block] for i in range(0, len(samples), block))
    return [part.stretch for part in parts_of(blocks, method)]


def test_levels_are_decibels_of_10_ms():
    wave = np.concatenate([np.full(160, 1.0), np.full(160, 0.1), np.full(80, 0.01)]).astype(
        np.float32
    )
    assert levels(wave) == pytest.approx([0.0, -20.0, -40.0], abs=1e-3)


def test_silence_of_any_length_has_no_stretch(noise):
    assert stretches(np.zeros(RATE // 10, np.float32)) == []
    assert stretches(np.zeros(300 * RATE, np.float32)) == []
    assert stretches(noise(60, 0.0003)) == []
    assert stretches(np.zeros(0, np.float32)) == []


def test_steady_noise_alone_has_no_stretch(noise):
    assert stretches(noise(120, 0.02)) == []


def test_a_short_recording_is_left_whole(noise):
    (part,) = stretches(noise(0.1, 0.1))
    assert (part.begin, part.end) == (0, RATE // 10)
    (part,) = stretches(np.concatenate([noise(5, 0.001), noise(1, 0.1), noise(5, 0.001)]))
    assert (part.begin, part.end) == (0, 11 * RATE)


def test_all_speech_is_inside_ordered_stretches_that_are_short_enough(noise):
    rng = np.random.default_rng(5)
    pieces, speech, at = [], [], 0.0
    for i in range(40):
        pause, talk = rng.uniform(0.2, 4.0), rng.uniform(0.3, 9.0)
        pieces += [noise(pause, 0.001, 2 * i), noise(talk, 0.1, 2 * i + 1)]
        speech.append((at + pause, at + pause + talk))
        at += pause + talk
    wave = np.concatenate(pieces)
    parts = stretches(wave)
    assert all(a.end <= b.begin for a, b in zip(parts, parts[1:]))
    assert all(p.end - p.begin <= 20 * RATE for p in parts)
    inside = np.zeros(len(wave), dtype=bool)
    for part in parts:
        inside[part.begin : part.end] = True
    for begin, end in speech:
        assert inside[int(begin * RATE) : int(end * RATE)].mean() > 0.999


def test_speech_without_pause_is_cut_all_the_same(noise):
    wave = np.concatenate([noise(90, 0.1), noise(30, 0.0005)])
    parts = stretches(wave)
    assert all(p.end - p.begin <= 20 * RATE for p in parts)
    assert parts[0].begin == 0
    assert all(a.end == b.begin for a, b in zip(parts, parts[1:]))
    assert parts[-1].end >= 90 * RATE


@pytest.mark.parametrize("method", ["energy", "none"])
def test_windows_keep_places_and_samples(monkeypatch, method, noise):
    monkeypatch.setattr(vad, "WINDOW_S", 25.0)
    rng = np.random.default_rng(3)
    pieces = [noise(rng.uniform(0.5, 6), 0.1 if i % 2 else 0.001, i) for i in range(50)]
    wave = np.concatenate(pieces)
    parts = list(parts_of([wave], method))
    assert len(parts) >= 10
    for part in parts:
        assert np.array_equal(part.samples, wave[part.stretch.begin : part.stretch.end])
    ends = [part.stretch.end for part in parts]
    assert all(a <= p.stretch.begin for a, p in zip(ends, parts[1:]))
    assert max(len(part.samples) for part in parts) <= 20 * RATE
    if method == "none":
        assert sum(len(part.samples) for part in parts) == len(wave)
        assert len(list(parts_of([np.zeros(RATE, np.float32)], "none"))) == 1
    else:
        loud = np.abs(wave) > 0.05
        inside = np.zeros(len(wave), dtype=bool)
        for part in parts:
            inside[part.stretch.begin : part.stretch.end] = True
        assert inside[loud].mean() > 0.999


def test_a_long_recording_is_never_held_whole(monkeypatch, noise):
    """Blocks are taken as parts are asked for: no more than a window ahead."""
    taken = [0]

    def blocks():
        for i in range(120):
            taken[0] += 10
            talk = noise(8, 0.1, i)
            yield np.concatenate([talk, noise(2, 0.001, i)])

    for part in parts_of(blocks(), "energy"):
        assert taken[0] <= part.stretch.end / RATE + vad.WINDOW_S + 30


def test_methods_are_named():
    with pytest.raises(ModelError, match="no voice activity detection 'loud'"):
        resolve("loud")
    assert resolve("auto") in ("silero", "energy")


def test_silero_says_how_to_get_it_where_it_is_not(monkeypatch):
    monkeypatch.setattr(vad, "silero_weights", lambda: None)
    assert resolve("auto") == "energy"
    with pytest.raises(ModelError, match=r"uyir\[vad\]"):
        resolve("silero")


needs_silero = pytest.mark.skipif(silero_weights() is None, reason="silero-vad is not installed")


@needs_silero
def test_silero_equals_the_packages_own_network(noise):
    """Hop by hop, as silero-vad runs it, its TorchScript gives the same probabilities."""
    import torch

    tones = np.sin(2 * np.pi * 150 * np.cumsum(1 + 0.2 * np.sin(np.arange(3 * RATE) / 900)) / RATE)
    wave = np.concatenate([noise(1, 0.01), (0.3 * tones).astype(np.float32), noise(1, 0.2)])
    wave = wave[: len(wave) - 77]
    theirs = torch.jit.load(str(silero_weights())).eval()
    hops = np.zeros((-(-len(wave) // 512), 512), dtype=np.float32)
    hops.reshape(-1)[: len(wave)] = wave
    with torch.no_grad():
        want = torch.cat([theirs(torch.from_numpy(hop)[None], RATE) for hop in hops])[:, 0]
    assert np.abs(speech_probabilities(wave) - want.numpy()).max() < 1e-4


@needs_silero
def test_silero_tells_speech_from_loud_noise(noise):
    """The demo's recordings between stretches of noise as loud as they."""
    import soundfile

    from uyir.demo import recordings

    speech = [soundfile.read(r.path, dtype="float32")[0] for r in recordings("ta")[:3]]
    pieces, spoken, at = [], [], 0
    for i, talk in enumerate(speech):
        gap = noise(12, float(np.sqrt((talk**2).mean())), i)
        spoken.append((at + len(gap), at + len(gap) + len(talk)))
        pieces += [gap, talk]
        at += len(gap) + len(talk)
    wave = np.concatenate([*pieces, noise(12, 0.05)])
    inside = np.zeros(len(wave), dtype=bool)
    for begin, end in voiced_pairs(wave):
        inside[begin * 160 : end * 160] = True
    said = np.zeros(len(wave), dtype=bool)
    for begin, end in spoken:
        said[begin:end] = True
    assert inside[said].mean() > 0.9
    assert inside[~said].mean() < 0.15
    assert stretches(noise(60, 0.1), "silero") == []
