"""Runs in stages: readers in processes, network and search here, words in processes; and on real GPUs."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import soundfile
import torch

from uyir.asr.whisper import convolve_by_products
from uyir.cli import main
from uyir.decode.lanes import Gpu, Staged
from uyir.decode.pipeline import Pipeline
from uyir.decode.processes import Segments
from uyir.decode.reading import How, Readers
from uyir.decode.sources import sources_of
from uyir.decode.transcribe import load, stack
from uyir.demo import recordings as demo_recordings

RATE = 16000
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def files(tmp_path_factory, noise):
    folder = tmp_path_factory.mktemp("files")
    for i in range(12):
        soundfile.write(folder / f"r{i}.wav", noise(0.3 + 0.1 * i, seed=i), RATE)
    (folder / "r12.wav").write_bytes(b"no sound")
    return sorted(folder.glob("*.wav"))


def staged(recogniser, files, languages=("ta",), readers=2, spoil=lambda lanes, readers: None):
    """Transcripts as runs on GPUs make them, and what was hashed; with this CPU in the GPU's place."""
    for language in languages:
        recogniser.language(language)
    how = How("energy", True)
    reading = Readers.forked(how, readers)
    gpu = Gpu(recogniser)
    lanes = [Staged(gpu) for _ in range(2)]
    for lane in lanes:
        lane.start()
    spoil(lanes, reading.processes)
    plan, _ = recogniser.pipeline(languages[0] if len(languages) == 1 else "auto")
    pipeline = Pipeline(lanes, plan.plan, recogniser.transcript, readers=reading)
    groups = [list(enumerate(sources_of(files)))]
    found = {result.number: result for result in pipeline.run(groups)}
    for lane in lanes:
        lane.close()
    return [found[n] for n in range(len(files))]


@needs_fork
@pytest.mark.parametrize("languages", [("ta",), ("kn", "ta")])
def test_stages_give_what_one_process_gives(model, files, languages):
    plain = load(model, vad="energy").transcribe(
        files, languages[0] if len(languages) == 1 else "auto"
    )
    found = staged(load(model, vad="energy"), files, languages)
    assert [(t.segments, t.error, t.language) for t in plain] == [
        (r.transcript.segments, r.transcript.error, r.transcript.language) for r in found
    ]
    assert sum(r.transcript.error is not None for r in found) == 1
    assert all(len(str(r.hash)) == 64 for r in found)


def test_samples_stacked_for_a_gpu_are_heard_as_single_ones(model, noise):
    recogniser = load(model)
    waves = [noise(0.5 + 0.2 * i, seed=i) for i in range(4)]
    stacked = stack(waves, pinned=False)
    assert len(stacked) == 4 and stacked.longest == len(waves[-1])
    assert len(stacked[:2]) == 2 and stacked[:2].longest == len(waves[1])
    wanted, lengths = recogniser.log_probs(waves, "ta")
    found, counts = recogniser.bearable(stacked, "ta")
    assert counts.tolist() == lengths.tolist()
    for row, other, length in zip(found, wanted, lengths.tolist()):
        torch.testing.assert_close(row[:length], other[:length], atol=1e-3, rtol=1e-3)


@needs_fork
def test_killed_readers_and_assemblers_cost_nothing(model, files):
    def kill(lanes, readers):
        for child in (*readers, *(lane._child for lane in lanes)):
            os.kill(child.pid, signal.SIGKILL)

    plain = load(model, vad="energy").transcribe(files, "ta")
    found = staged(load(model, vad="energy"), files, spoil=kill)
    assert [t.segments for t in plain] == [r.transcript.segments for r in found]


@needs_fork
def test_a_file_that_kills_its_reader_is_named_alone(files, monkeypatch):
    import uyir.decode.reading as reading

    real = reading.parts_of

    def parts_of(blocks, vad):
        parts = list(real(blocks, vad))
        if any(0.55 < len(part.samples) / RATE < 0.65 for part in parts):
            os.kill(os.getpid(), signal.SIGKILL)
        return iter(parts)

    monkeypatch.setattr(reading, "parts_of", parts_of)
    how = How("energy", False)
    readers = Readers.forked(how, 2)
    groups = [list(enumerate(sources_of(files)))]
    events = [e for _, some in readers.ahead(groups, lambda n: True) for e in some]
    readers.close()
    died = {e.number for e in events if isinstance(e, reading.Reading) and "died" in str(e.error)}
    lengths = [0.3 + 0.1 * int(f.stem[1:]) if f.stem != "r12" else 0.0 for f in files]
    assert died == {n for n, length in enumerate(lengths) if abs(length - 0.6) < 0.01}
    assert len([e for e in events if isinstance(e, reading.Reading)]) == len(files)


def test_memory_is_lent_until_the_last_array_in_it_is_gone():
    segments = Segments(2, 100)
    first, second = segments.lend(), segments.lend()
    assert {first, second} == {0, 1} and segments.lend() is None
    assert segments.fill(first, [np.zeros(60), np.zeros(41)]) is None
    lengths = segments.fill(first, [np.full(60, 1.0), np.zeros(0), np.full(40, 2.0)])
    arrays = segments.arrays(first, lengths)
    assert [len(a) for a in arrays] == [60, 0, 40] and arrays[2].tolist() == [2.0] * 40
    kept = arrays[0][10:20]
    del arrays
    assert segments.lend() is None
    del kept
    assert segments.lend() == first
    assert segments.arrays(second, segments.fill(second, [])) == []
    assert segments.lend() == second


@needs_fork
def test_without_memory_to_lend_samples_come_all_the_same(model, files, monkeypatch):
    import uyir.decode.reading as reading

    plain = load(model, vad="energy").transcribe(files, "ta")
    monkeypatch.setattr(reading, "_SEGMENTS", 1)
    monkeypatch.setattr(reading, "CHUNK_S", 0.5)
    found = staged(load(model, vad="energy"), files)
    assert [t.segments for t in plain] == [r.transcript.segments for r in found]


# ---- on a GPU


def test_a_convolution_by_products_is_the_convolution():
    torch.manual_seed(0)
    for stride, width in ((1, 80), (2, 32)):
        layer = torch.nn.Conv1d(width, 24, 3, stride=stride, padding=1)
        x = torch.randn(3, 57, width)
        wanted = layer(x.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(convolve_by_products(layer, x), wanted, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def demo():
    recordings = [r.path for r in demo_recordings("ta")]
    assert recordings
    return recordings


@needs_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0,cuda:0"])
def test_a_gpu_hears_what_a_cpu_hears(demo, device):
    cpu = load().transcribe(demo, "ta")
    exact = load(device=device, precision="float32", workers=4).transcribe(demo, "ta")
    half = load(device=device, workers=4).transcribe(demo, "ta")
    assert [t.error for t in (*exact, *half)] == [None] * (2 * len(cpu))
    assert sum(a.text == b.text for a, b in zip(cpu, exact)) >= len(cpu) - 1
    words = sum(len(t.words) for t in cpu)
    same = sum(
        len({w.word for w in a.words} & {w.word for w in b.words}) for a, b in zip(cpu, half)
    )
    assert same >= 0.93 * words
    assert all(
        abs(a.confidence - b.confidence) < 0.1 for a, b in zip(cpu, exact) if a.text == b.text
    )


@needs_gpu
def test_the_command_runs_on_a_gpu_for_both_languages(tmp_path, capsys):
    recordings = [str(r.path) for language in ("kn", "ta") for r in demo_recordings(language)]
    out = tmp_path / "out"
    code = main(["transcribe", *recordings, "--device", "cuda", "-o", str(out), "-f", "all"])
    assert code == 0, capsys.readouterr().err
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    assert len(found) == len(recordings)
    assert sum(f["language"] == f["id"][:2] for f in found) >= len(found) - 1


@needs_gpu
def test_gpu_memory_that_does_not_suffice_shrinks_the_batch(demo):
    spoken = [soundfile.read(path, dtype="float32")[0] for path in demo]
    waves = [np.resize(spoken[i % len(spoken)], 20 * RATE) for i in range(64)]
    recogniser = load(device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    wanted, lengths = recogniser.log_probs(waves, "ta")
    need = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.6 * need) / whole)
    try:
        found, counts = recogniser.log_probs(waves, "ta")
        transcripts = recogniser.transcribe(waves, "ta")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert recogniser._bearable is not None, "the limit was never felt"
    assert counts.tolist() == lengths.tolist()
    assert float((found - wanted).exp().sub(1).abs().median()) < 0.1  # bfloat16 in other batches
    assert [t.error for t in transcripts] == [None] * len(waves)
