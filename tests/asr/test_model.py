"""The model: shapes, independence of the batch, the language token, and both torch versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from uyir.asr.checkpoint import load_model
from uyir.asr.model import CtcModel, ModelConfig, Subsampling, chunk_mask, greedy
from uyir.errors import ModelError

GOLDEN = Path(__file__).parent / "golden" / "tiny"


def small(**changes: object) -> CtcModel:
    torch.manual_seed(3)
    values = {
        "tokens": 9,
        "dim": 32,
        "heads": 2,
        "ffn_dim": 48,
        "layers": 2,
        "kernel": 7,
        "subsampling_channels": 4,
    }
    return CtcModel(ModelConfig.from_dict({**values, **changes})).eval()


def golden_features() -> torch.Tensor:
    """Numbers that every torch version makes alike, ``(2, 57, 80)``."""
    grid = torch.arange(2 * 57 * 80, dtype=torch.float64)
    return (3 * torch.sin(grid * 0.37) + torch.cos(grid * 0.011)).view(2, 57, 80).float()


def test_log_probs_are_distributions_at_40_ms() -> None:
    log_probs, lengths = small().log_probs(torch.randn(2, 101, 80), torch.tensor([101, 50]), "ta")
    assert log_probs.shape == (2, 26, 9)
    assert lengths.tolist() == [26, 13]
    assert torch.allclose(log_probs.exp().sum(dim=-1), torch.ones(2, 26))


@pytest.mark.parametrize("training", [False, True])
def test_output_does_not_depend_on_the_batch(training: bool) -> None:
    """Padding changes nothing, in eval mode and in training mode (without dropout)."""
    model = small(dropout=0.0).train(training)
    lengths = torch.tensor([230, 97, 2, 1])
    features = torch.randn(4, 230, 80)
    languages = ["ta", "kn", "kn", "ta"]
    together, out = model.log_probs(features, lengths, languages)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = model.log_probs(
            features[row : row + 1, :length], lengths[row : row + 1], languages[row]
        )
        assert alone.shape[1] == int(out[row]) == Subsampling.lengths(length)
        assert (together[row, : out[row]] - alone[0]).abs().max() < 1e-5


def test_language_token_is_heard() -> None:
    model, features, lengths = small(), torch.randn(1, 60, 80), torch.tensor([60])
    tamil, _ = model.log_probs(features, lengths, "ta")
    kannada, _ = model.log_probs(features, lengths, ["kn"])
    assert (tamil - kannada).abs().max() > 1e-3


def test_unknown_language() -> None:
    with pytest.raises(ModelError, match="no language 'hi', only ta, kn"):
        small().log_probs(torch.randn(1, 9, 80), torch.tensor([9]), "hi")
    with pytest.raises(ModelError, match="2 languages for a batch of 1"):
        small().log_probs(torch.randn(1, 9, 80), torch.tensor([9]), ["ta", "kn"])


def test_normalisation_is_applied_once() -> None:
    model, features, lengths = small(), torch.randn(1, 40, 80), torch.tensor([40])
    plain, _ = model.log_probs(features, lengths, "ta")
    model.set_normalisation(torch.full((80,), -7.0), torch.full((80,), 2.5))
    moved, _ = model.log_probs(features * 2.5 - 7.0, lengths, "ta")
    assert torch.allclose(plain, moved, atol=1e-4)


def test_inter_layer_gives_a_second_output() -> None:
    model = small(inter_layer=1)
    last, _, inter = model(torch.randn(1, 40, 80), torch.tensor([40]), torch.tensor([0]))
    assert inter is not None
    assert inter.shape == last.shape
    assert not torch.allclose(inter, last)


def test_default_size() -> None:
    model = CtcModel(ModelConfig(tokens=85))
    assert 5e6 < sum(parameter.numel() for parameter in model.parameters()) < 8e6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokens": 1}, "1 tokens"),
        ({"tokens": 9, "heads": 7}, "not a multiple"),
        ({"tokens": 9, "kernel": 8}, "want an odd one"),
        ({"tokens": 9, "languages": []}, "languages"),
        ({"tokens": 9, "inter_layer": 7}, "inter_layer 7"),
        ({"tokens": 9, "depth": 3}, "depth"),
        ({}, "tokens"),
    ],
)
def test_impossible_configurations(values: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelConfig.from_dict(values)


def test_greedy_merges_repeats_and_drops_blanks() -> None:
    best = torch.tensor([[1, 1, 0, 1, 2, 2, 0, 3], [3, 3, 0, 0, 1, 1, 1, 1]])
    log_probs = torch.nn.functional.one_hot(best, 4).float().log()
    assert greedy(log_probs, torch.tensor([8, 3])) == [[1, 1, 2, 3], [3]]


def test_same_outputs_in_both_torch_versions() -> None:
    """A committed model gives the outputs that torch 2.11 gave."""
    from safetensors.torch import load_file

    wanted = load_file(str(GOLDEN / "expected.safetensors"))
    loaded = load_model(GOLDEN)
    log_probs, lengths = loaded.model.log_probs(
        golden_features(), torch.tensor([57, 31]), ["ta", "kn"]
    )
    assert torch.equal(lengths, wanted["lengths"])
    for row, length in enumerate(lengths.tolist()):
        assert (log_probs[row, :length] - wanted["log_probs"][row, :length]).abs().max() < 1e-4


def tiny(**changes: Any) -> CtcModel:
    torch.manual_seed(4)
    values = {
        "tokens": 7,
        "dim": 16,
        "heads": 2,
        "ffn_dim": 24,
        "layers": 3,
        "kernel": 5,
        "subsampling_channels": 4,
        "dropout": 0.0,
    }
    return CtcModel(ModelConfig.from_dict({**values, **changes})).eval()


@pytest.mark.parametrize("changes", [{"encoder": "tdnn", "inter_layer": 2}, {"chunk": 4}])
def test_other_encoders_do_not_depend_on_padding(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    features, lengths = torch.randn(2, 90, 80), torch.tensor([90, 50])
    together, out = model.log_probs(features, lengths, ["ta", "kn"])
    alone, count = model.log_probs(features[1:, :50], lengths[1:], "kn")
    assert int(out[1]) == int(count[0]) == alone.shape[1]
    assert torch.allclose(together[1, : int(count[0])], alone[0], atol=1e-5)
    other, _ = model.log_probs(features[1:, :50], lengths[1:], "ta")
    assert not torch.allclose(alone, other)
    assert ModelConfig.from_dict(model.config.to_dict()) == model.config


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_a_chunk_hears_nothing_later(chunk: int) -> None:
    """What is heard of a beginning is what is heard of it in the whole: it can be streamed."""
    model = tiny(chunk=chunk, left_chunks=2)
    features = torch.randn(1, 160, 80)
    whole, _ = model.log_probs(features, torch.tensor([160]), "ta")
    for chunks in (1, 2, 3):
        frames = chunks * chunk
        # The subsampling looks 30 ms ahead.
        heard = min(160, 4 * frames + 3)
        part, _ = model.log_probs(features[:, :heard], torch.tensor([heard]), "ta")
        assert torch.allclose(whole[:, :frames], part[:, :frames], atol=1e-5)
    # It does hear its own chunk, and no more of the past than it should.
    changed = features.clone()
    changed[:, 4 * chunk :] += 1.0
    other, _ = model.log_probs(changed, torch.tensor([160]), "ta")
    assert not torch.allclose(whole[:, chunk : 2 * chunk], other[:, chunk : 2 * chunk], atol=1e-3)
    full = tiny(chunk=0)
    full.load_state_dict(model.state_dict())
    assert not torch.allclose(
        full.log_probs(features, torch.tensor([160]), "ta")[0], whole, atol=1e-3
    )


def test_the_mask_of_chunks() -> None:
    hidden = chunk_mask(8, 3, 1, torch.device("cpu"))
    for row in range(8):
        for column in range(8):
            one, two = (row - 1) // 3, (column - 1) // 3
            seen = column == 0 if row == 0 or column == 0 else one - 1 <= two <= one
            assert bool(hidden[row, column]) is not seen


def test_only_the_conformer_streams() -> None:
    with pytest.raises(ModelError, match="a tdnn encoder has no chunks"):
        tiny(encoder="tdnn", chunk=4)
    with pytest.raises(ModelError, match="chunk -1"):
        tiny(chunk=-1)
