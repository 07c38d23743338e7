"""`--cluster ray`: real workers on this machine, one of them killed while it works."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile

from uyir.decode.batches import groups_of
from uyir.decode.cluster import _Worker, connected
from uyir.decode.sources import sources_of
from uyir.decode.transcribe import load
from uyir.errors import ModelError

RATE = 16000
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for i in range(40):
        rng = np.random.default_rng(i)
        wave = (0.1 * rng.standard_normal(int((0.3 + 0.05 * i) * RATE))).astype(np.float32)
        soundfile.write(folder / f"r{i:02d}.wav", wave, RATE)
    (folder / "r40.wav").write_bytes(b"no sound")
    return sorted(folder.glob("*.wav"))


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    ray = pytest.importorskip("ray")
    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@needs_ray
def test_a_killed_worker_loses_nothing_and_doubles_nothing(model, files, ray):
    plain = load(model, vad="energy", batch_size=4).transcribe(files, "ta")
    recogniser = load(model, vad="energy", batch_size=4, workers=2, cluster="ray")
    pipeline, lanes = recogniser.pipeline("ta")
    assert len(lanes) == 2
    pids = [ray.get(lane.process._actor.pid.remote()) for lane in lanes]
    assert len(set(pids)) == 2 and os.getpid() not in pids
    sources = list(sources_of(files))
    groups = [list(enumerate(sources))]
    assert len(groups_of([s.duration() for s in sources])) == 1
    found = {}
    counts = Counter()
    for result in pipeline.run(groups):
        counts[result.number] += 1
        found[result.number] = result.transcript
        if len(found) == 5:
            os.kill(pids[0], signal.SIGKILL)
    again = [lane.process._actor for lane in lanes if lane.process._actor is not None]
    assert pids[0] not in [ray.get(actor.pid.remote()) for actor in again]
    for lane in lanes:
        lane.close()
    assert set(counts) == set(range(len(files))) and set(counts.values()) == {1}
    assert [(t.segments, t.error) for t in plain] == [
        (found[n].segments, found[n].error) for n in range(len(files))
    ]


@needs_ray
def test_the_command_writes_what_it_writes_without_a_cluster(model, files, tmp_path):
    command = [sys.executable, "-m", "uyir", "transcribe", str(files[0].parent), "-l", "ta"]
    command += ["--model", str(model), "--threads", "2", "-f", "json", "-o"]
    for name, more in (("plain", []), ("ray", ["--cluster", "ray"])):
        done = subprocess.run(
            [*command, str(tmp_path / name), *more], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 1, done.stderr  # one file is no sound
        assert "r40.wav" in done.stderr
    trees = [
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("plain", "ray")
    ]
    assert trees[0] == trees[1] and len(trees[0]) == 41


def test_a_worker_with_another_model_is_refused(model):
    recogniser = load(model)
    answer = _Worker(recogniser.maker("cpu"), "another").ask(None)
    assert isinstance(answer, ModelError) and "another model" in str(answer)


def test_without_ray_the_command_says_how_to_get_it(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModelError, match=r"uyir\[ray\]"):
        connected()
    with pytest.raises(ModelError, match="want ray"):
        load(model, cluster="slurm")
