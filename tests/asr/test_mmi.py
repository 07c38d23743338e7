"""Lattice-free MMI: its n-gram and graphs, its sums against all paths one by one, and a toy task."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tones import TOKENS, write_tones

from uyir.asr.config import read_config
from uyir.asr.losses import edit_distance
from uyir.asr.mmi import END, Arcs, Mmi, PhoneLm, denominator, numerator
from uyir.asr.train import Trainer
from uyir.errors import DataError, ModelError

TEXTS = [(1, 2, 2, 1), (1, 2), (2, 1, 1), (1, 2, 1, 2), ()]


def noise(frames: int, classes: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, classes)) * 2
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def collapsed(path: Sequence[int]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token)


def sums(log_probs: np.ndarray, lm: PhoneLm, text: Sequence[int]) -> tuple[float, float]:
    """What was said and what could have been, path by path."""
    said = everything = -np.inf
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        found = collapsed(path)
        score = float(log_probs[np.arange(len(path)), list(path)].sum()) + lm.score(found)
        everything = np.logaddexp(everything, score)
        if found == tuple(text):
            said = np.logaddexp(said, score)
    return float(said), float(everything)


def forward(arcs: Arcs, log_probs: np.ndarray) -> float:
    """The sum over a graph's paths, frame by frame."""
    states = int(arcs.target.max()) + 1
    now = np.full(states, -np.inf)
    now[0] = 0.0
    for row in [*log_probs, None]:
        then = np.full(states, -np.inf)
        for source, target, label, score in zip(arcs.source, arcs.target, arcs.label, arcs.score):
            if (label < 0) == (row is None):
                heard = 0.0 if row is None else row[label]
                then[target] = np.logaddexp(then[target], now[source] + score + heard)
        now = then
    return float(now[-1])


@pytest.mark.parametrize("pairs", [0, 2, 99])
def test_probabilities_of_every_history_add_up_to_one(pairs: int) -> None:
    lm = PhoneLm(TEXTS, 4, pairs)
    assert len(lm.histories) == 4 + min(pairs, len([h for h in lm.histories if len(h) == 2]))
    assert np.allclose(np.exp(lm.log_prob).sum(axis=1), 1.0)
    # What never occurred has a probability too; what occurred often has more.
    assert (lm.log_prob > -8).all()
    assert lm.score((1, 2)) > lm.score((3, 3))
    for row, history in enumerate(lm.histories):
        for token in range(1, 4):
            then = lm.histories[lm.next[row, token]]
            assert then in ((token,), (history[-1], token))


def test_a_probability_by_hand() -> None:
    """After token 1 of TEXTS come 2, 2, 1, 2, 2 and three ends."""
    lm = PhoneLm(TEXTS, 3)
    ends, one, two = 5 + 1, 7 + 1, 6 + 1
    base = one / (ends + one + two)
    wanted = (1 - 0.7) / 7 + 0.7 * 3 / 7 * base
    counts = {2: 4, 1: 1, END: 2}
    assert sum(counts.values()) == 7
    assert np.exp(lm.log_prob[1, 1]) == pytest.approx(wanted)


@pytest.mark.parametrize("pairs", [0, 3])
@pytest.mark.parametrize("seed", range(4))
def test_graphs_hold_every_path_once(pairs: int, seed: int) -> None:
    lm = PhoneLm(TEXTS, 3, pairs)
    log_probs = noise(6, 3, seed)
    for text in ((1, 2), (1, 1), (2, 1, 1), ()):
        said, everything = sums(log_probs, lm, text)
        assert forward(numerator(text, lm.scores(text)), log_probs) == pytest.approx(said)
    assert forward(denominator(lm), log_probs) == pytest.approx(everything, abs=1e-5)


def test_k2_is_asked_for_where_it_is_missing() -> None:
    try:
        import k2  # noqa: F401
    except ImportError:
        with pytest.raises(ModelError, match=r"wants k2, which is not installed.*uyir\[k2\]"):
            Mmi([PhoneLm(TEXTS, 3)], torch.device("cpu"))
    else:
        Mmi([PhoneLm(TEXTS, 3)], torch.device("cpu"))


def a_batch() -> tuple[torch.Tensor, ...]:
    """Three utterances of two languages; the last is too short for its text."""
    log_probs = torch.from_numpy(np.stack([noise(6, 3, seed) for seed in range(3)]))
    targets = torch.tensor([[1, 2, 0], [2, 1, 1], [1, 1, 2]])
    return (
        log_probs,
        torch.tensor([4, 6, 3]),
        torch.tensor([1, 0, 0]),
        targets,
        torch.tensor([2, 3, 3]),
    )


def test_the_loss_is_the_sum_over_all_paths() -> None:
    pytest.importorskip("k2", reason="k2 is not installed")
    lms = [PhoneLm(TEXTS, 3, 3), PhoneLm(TEXTS[:2], 3)]
    log_probs, lengths, language, targets, target_lengths = a_batch()
    wanted = 0.0
    for row in range(2):
        said, everything = sums(
            log_probs[row, : lengths[row]].numpy(),
            lms[int(language[row])],
            targets[row, : target_lengths[row]].tolist(),
        )
        wanted += everything - said
    mmi = Mmi(lms, torch.device("cpu"), beam=200.0)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return mmi.loss(values, lengths, language, targets, target_lengths)

    assert float(loss(log_probs)) == pytest.approx(wanted, abs=1e-4)
    assert wanted > 0
    # Gradients by differences; the short utterance and the padding have none.
    inputs = log_probs.float().requires_grad_()
    loss(inputs).backward()  # type: ignore[no-untyped-call,unused-ignore]
    assert inputs.grad is not None
    assert not inputs.grad[2].any() and not inputs.grad[0, 4:].any()
    for row, frame, token in ((0, 1, 2), (1, 5, 0), (1, 2, 1)):
        changed = [log_probs.clone() for _ in range(2)]
        changed[0][row, frame, token] += 0.01
        changed[1][row, frame, token] -= 0.01
        slope = (float(loss(changed[0])) - float(loss(changed[1]))) / 0.02
        assert float(inputs.grad[row, frame, token]) == pytest.approx(slope, abs=2e-3)


def make_config(folder: Path, **changes: object) -> Path:
    write_tones(folder / "data", 24)
    values: dict[str, object] = {
        "train": ["data/manifest.tsv"],
        "dev": ["data/manifest.tsv"],
        "output": "exp",
        "tokens": "data/tokens.txt",
        "model": {
            "dim": 32,
            "heads": 2,
            "ffn_dim": 64,
            "layers": 2,
            "kernel": 7,
            "subsampling_channels": 8,
            "dropout": 0.0,
        },
        "augment": {"speed": [1, 1], "reverberation": 0, "colour": 0, "noise": 0, "babble": 0},
        "batch_seconds": 8,
        "pad_seconds": 0.05,
        "workers": 2,
        "steps": 140,
        "peak_lr": 0.005,
        "ema": 0.9,
        "log_steps": 20,
        "mmi_weight": 0.5,
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_toy_task_trains_and_decodes(tmp_path: Path) -> None:
    """Tones are learnt with MMI and CTC, and found again by k2's search of MMI's own denominator."""
    pytest.importorskip("k2", reason="k2 is not installed")
    from uyir.decode.engines import SearchOptions, create
    from uyir.decode.graph import Graph

    torch.set_num_threads(1)
    trainer = Trainer(read_config(make_config(tmp_path)), "cpu", lambda line: None)
    outcome = trainer.run()
    assert outcome.finished and outcome.progress.skipped == 0
    assert outcome.dev["ta"] < 0.1
    arcs = denominator(PhoneLm((u.tokens for u in trainer.dev), len(TOKENS)))
    inner = arcs.label >= 0
    entered = (arcs.label > 0) & (arcs.source != arcs.target)
    finals = np.full(int(arcs.target.max()), np.inf)
    finals[arcs.source[~inner]] = -arcs.score[~inner]
    graph = Graph.from_arcs(
        arcs.source[inner],
        arcs.target[inner],
        arcs.label[inner] + 1,
        np.where(entered, arcs.label, 0)[inner],
        -arcs.score[inner],
        0,
        finals,
        num_tokens=len(TOKENS),
        num_words=len(TOKENS),
    )
    engine = create("k2", graph, SearchOptions(beam=20.0))
    errors = tokens = 0
    batch = next(iter(trainer.loader.load([list(range(12))], 0)))
    features, lengths = trainer.frontend.batch(batch.samples, batch.lengths)
    log_probs, out = trainer.averaged_model().log_probs(features, lengths, "ta")
    for row, best in enumerate(engine.decode(log_probs.numpy(), out.numpy())):
        wanted = batch.targets[row, : batch.target_lengths[row]].tolist()
        errors += edit_distance(wanted, list(best[0].subwords))
        tokens += len(wanted)
    assert errors < 0.1 * tokens


def test_the_loss_of_a_run_is_mixed(tmp_path: Path) -> None:
    pytest.importorskip("k2", reason="k2 is not installed")
    losses = []
    for weight in (0.0, 0.25, 1.0):
        config = read_config(make_config(tmp_path, mmi_weight=weight, mmi_pairs=4))
        trainer = Trainer(config, "cpu", lambda line: None)
        trainer._set_normalisation()
        batch = next(iter(trainer.loader.load(trainer._epoch(0), 0)))
        losses.append(float(trainer._loss(batch).detach()))
    assert losses[1] == pytest.approx(0.75 * losses[0] + 0.25 * losses[2], rel=1e-4)
    assert losses[2] < losses[0]


def test_without_k2_a_run_says_so_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mmi_weight is 1\.5"):
        read_config(make_config(tmp_path, mmi_weight=1.5))
    try:
        import k2  # noqa: F401
    except ImportError:
        with pytest.raises(ModelError, match="wants k2"):
            Trainer(read_config(make_config(tmp_path)), "cpu", lambda line: None)
        assert not (tmp_path / "exp").exists()
