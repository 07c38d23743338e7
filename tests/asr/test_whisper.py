"""The Whisper encoder and its frontend, on random weights."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from uyir.asr.features import FrontendConfig, make_frontend
from uyir.asr.model import CtcModel, ModelConfig
from uyir.asr.whisper import LogMel, WhisperEncoder, encoder_state, mix_encoder, read_ctranslate2
from uyir.errors import ModelError

FRONTEND = FrontendConfig(kind="whisper-logmel")


def wave(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(samples, generator=generator)


def test_a_batch_gives_what_each_utterance_gives_alone() -> None:
    waves = [wave(16000), wave(7001, 1), wave(300, 2)]
    features, frames = LogMel().batch(waves)
    for row, alone in enumerate(waves):
        wanted = LogMel().cpu(alone)
        assert int(frames[row]) == len(wanted) == FRONTEND.frames(len(alone))
        assert torch.allclose(features[row, : len(wanted)], wanted, atol=1e-6)
        assert not features[row, len(wanted) :].any()


def test_log_mel_against_its_definition() -> None:
    samples = wave(4000).double().numpy()
    padded = np.concatenate([samples[200:0:-1], samples, np.zeros(200)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.stack(
        [np.abs(np.fft.rfft(window * padded[t * 160 : t * 160 + 400])) ** 2 for t in range(25)]
    )
    bands = LogMel()._filters.double().numpy()
    log = np.log10(np.maximum(power @ bands, 1e-10))
    wanted = (np.maximum(log, log.max() - 8) + 4) / 4
    assert np.abs(LogMel().cpu(wave(4000)).numpy() - wanted).max() < 1e-4


def test_the_model_does_not_depend_on_padding() -> None:
    torch.manual_seed(1)
    config = ModelConfig(tokens=5, encoder="whisper", dim=16, heads=2, layers=2, frontend=FRONTEND)
    model = CtcModel(config).eval()
    waves = [wave(16000), wave(9000, 1)]
    features, frames = make_frontend(FRONTEND).batch(waves)
    together, lengths = model.log_probs(features, frames, ["ta", "kn"])
    for row, language in enumerate(("ta", "kn")):
        short = features[row : row + 1, : int(frames[row])]
        alone, count = model.log_probs(short, frames[row : row + 1], language)
        assert int(count) == int(lengths[row]) == alone.shape[1]
        assert torch.allclose(together[row, : int(count)], alone[0], atol=1e-5)
    assert CtcModel(ModelConfig.from_dict(config.to_dict())).config == config


def test_an_inner_block_has_an_output_too() -> None:
    torch.manual_seed(1)
    shape = {"tokens": 5, "encoder": "whisper", "dim": 16, "heads": 2, "layers": 2, "dropout": 0.0}
    model = CtcModel(
        ModelConfig.from_dict({**shape, "frontend": {"kind": "whisper-logmel"}, "inter_layer": 1})
    )
    features, frames = make_frontend(FRONTEND).batch([wave(16000), wave(9000, 1)])
    last, lengths, inter = model(features, frames, torch.tensor([0, 1]))
    assert inter is not None and inter.shape == last.shape
    # The inner output is that of the encoder without its upper block.
    short = CtcModel(
        ModelConfig.from_dict({**shape, "frontend": {"kind": "whisper-logmel"}, "layers": 1})
    )
    state = {n: v for n, v in model.state_dict().items() if ".layers.1." not in n}
    short.load_state_dict(state)
    wanted, _, none = short(features, frames, torch.tensor([0, 1]))
    assert none is None
    for row, length in enumerate(lengths.tolist()):
        assert torch.allclose(inter[row, :length], wanted[row, :length], atol=1e-5)
    assert not torch.allclose(inter, last, atol=1e-2)


def test_an_encoder_hears_its_own_features_only() -> None:
    with pytest.raises(ModelError, match="cannot hear"):
        ModelConfig(tokens=5, encoder="whisper", dim=16, heads=2)
    with pytest.raises(ModelError, match="at most 30 s"):
        WhisperEncoder(16, 2, 1)(torch.zeros(1, 3100, 80), torch.tensor([3100]))


def ctranslate2(arrays: dict[str, np.ndarray], spec: bytes = b"WhisperSpec") -> bytes:
    def text(value: bytes) -> bytes:
        return struct.pack("<H", len(value) + 1) + value + b"\0"

    out = struct.pack("<I", 6) + text(spec) + struct.pack("<II", 3, len(arrays))
    for name, value in arrays.items():
        out += text(name.encode()) + bytes([value.ndim])
        out += b"".join(struct.pack("<I", n) for n in value.shape) + bytes([4])
        out += struct.pack("<I", value.nbytes) + value.tobytes()
    return out


def whisper_arrays(dim: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def make(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float16)

    arrays = {
        "encoder/conv1/weight": make(dim, 80, 3),
        "encoder/conv1/bias": make(dim),
        "encoder/conv2/weight": make(dim, dim, 3),
        "encoder/conv2/bias": make(dim),
        "encoder/layer_norm/gamma": make(dim),
        "encoder/layer_norm/beta": make(dim),
    }
    for part, shapes in {
        "self_attention/layer_norm": None,
        "ffn/layer_norm": None,
        "self_attention/linear_0": (3 * dim, dim),
        "self_attention/linear_1": (dim, dim),
        "ffn/linear_0": (4 * dim, dim),
        "ffn/linear_1": (dim, 4 * dim),
    }.items():
        name = f"encoder/layer_0/{part}"
        if shapes is None:
            arrays.update({f"{name}/gamma": make(dim), f"{name}/beta": make(dim)})
        else:
            arrays.update({f"{name}/weight": make(*shapes), f"{name}/bias": make(shapes[0])})
    return arrays


def test_weights_are_read_from_ctranslate2_in_parts(tmp_path: Path) -> None:
    data = ctranslate2(whisper_arrays(16))
    (tmp_path / "1").write_bytes(data[:5000])
    (tmp_path / "2").write_bytes(data[5000:])
    arrays = read_ctranslate2([tmp_path / "1", tmp_path / "2"])
    encoder = WhisperEncoder(16, 2, 1)
    encoder.load_state_dict(encoder_state(arrays))
    fused = arrays["encoder/layer_0/self_attention/linear_0/weight"].astype(np.float32)
    assert torch.equal(
        encoder.layers[0].attention.value.weight.detach(), torch.from_numpy(fused[32:])
    )
    with pytest.raises(ModelError, match="not a whole CTranslate2 model"):
        read_ctranslate2(tmp_path / "1")
    (tmp_path / "3").write_bytes(ctranslate2({}, b"TransformerSpec"))
    with pytest.raises(ModelError, match="TransformerSpec"):
        read_ctranslate2(tmp_path / "3")
    del arrays["encoder/conv1/bias"]
    with pytest.raises(ModelError, match="encoder/conv1/bias"):
        encoder_state(arrays)


def test_mixing_goes_from_the_pretrained_to_the_tuned_encoder() -> None:
    config = ModelConfig(tokens=5, encoder="whisper", dim=16, heads=2, layers=1, frontend=FRONTEND)
    model = CtcModel(config)
    pretrained = {k: torch.zeros_like(v) for k, v in model.whisper.state_dict().items()}
    head = model.head.weight.detach().clone()
    before = model.whisper.conv1.weight.detach().clone()
    mix_encoder(model, pretrained, 0.75)
    assert torch.allclose(model.whisper.conv1.weight, 0.75 * before)
    assert torch.equal(model.head.weight, head)
    with pytest.raises(ModelError, match="0 to 1"):
        mix_encoder(model, pretrained, 1.5)


def test_gradients_do_not_come_from_stale_memory() -> None:
    """torch 1.13's gelu gives a garbage gradient for a transposed one, from whatever lay there."""
    torch.manual_seed(2)
    config = ModelConfig(tokens=5, encoder="whisper", dim=16, heads=2, layers=1, frontend=FRONTEND)
    model = CtcModel(config).eval()
    features, frames = make_frontend(FRONTEND).batch([wave(16000), wave(9000, 1)])

    def gradients() -> list[torch.Tensor]:
        stale = [torch.full((size,), 1e30) for size in range(100, 60000, 997)]
        del stale
        model.zero_grad(set_to_none=True)
        model(features, frames, torch.tensor([0, 1]))[0].square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    first = gradients()
    for _ in range(3):
        for one, two in zip(first, gradients()):
            assert torch.allclose(one, two, rtol=1e-4, atol=1e-4)
