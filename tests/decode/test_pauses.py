from __future__ import annotations

import numpy as np
import pytest

from uyir.decode.pauses import levels, stretches

RATE = 16000


def noise(seconds, level, seed=0):
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(int(seconds * RATE))).astype(np.float32)


def test_levels_are_decibels_of_10_ms():
    wave = np.concatenate([np.full(160, 1.0), np.full(160, 0.1), np.full(80, 0.01)]).astype(
        np.float32
    )
    assert levels(wave) == pytest.approx([0.0, -20.0, -40.0], abs=1e-3)


def test_silence_of_any_length_has_no_stretch():
    assert stretches(np.zeros(RATE // 10, np.float32)) == []
    assert stretches(np.zeros(300 * RATE, np.float32)) == []
    assert stretches(noise(60, 0.0003)) == []
    assert stretches(np.zeros(0, np.float32)) == []


def test_steady_noise_alone_has_no_stretch():
    assert stretches(noise(120, 0.02)) == []


def test_a_short_recording_is_left_whole():
    (part,) = stretches(noise(0.1, 0.1))
    assert (part.begin, part.end) == (0, RATE // 10)
    (part,) = stretches(np.concatenate([noise(5, 0.001), noise(1, 0.1), noise(5, 0.001)]))
    assert (part.begin, part.end) == (0, 11 * RATE)


def test_all_speech_is_inside_ordered_stretches_that_are_short_enough():
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


def test_speech_without_pause_is_cut_all_the_same():
    wave = np.concatenate([noise(90, 0.1), noise(30, 0.0005)])
    parts = stretches(wave)
    assert all(p.end - p.begin <= 20 * RATE for p in parts)
    assert parts[0].begin == 0
    assert all(a.end == b.begin for a, b in zip(parts, parts[1:]))
    assert parts[-1].end >= 90 * RATE
