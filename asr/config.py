"""A training run's configuration, read from YAML."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from uyir import LANGUAGES
from uyir.asr.augment import AugmentConfig
from uyir.errors import DataError


@dataclass(frozen=True)
class Source:
    """A training manifest, each utterance taken `repeat` times an epoch.

    With `share`, instead, as often as makes its audio that share of an epoch's, so that a little
    real speech counts beside much that is synthetic. What is left over of a whole number of
    repetitions is drawn anew for every epoch.
    """

    manifest: str
    repeat: int = 1
    share: Optional[float] = None

    def __post_init__(self) -> None:
        if self.repeat < 1 or self.repeat != int(self.repeat):
            raise DataError(f"{self.manifest}: repeat is {self.repeat}, want 1 or more")
        if self.share is None:
            return
        if self.repeat != 1:
            raise DataError(f"{self.manifest}: both repeat and share are given, want one")
        if not 0 < self.share <= 1:
            raise DataError(f"{self.manifest}: share is {self.share}, want above 0, 1 at most")


@dataclass(frozen=True)
class TrainConfig:
    """A training run. Relative paths are relative to the configuration file.

    The learning rate rises over `warmup` of the run and falls along a cosine to 1 % of
    `peak_lr`. A run's length is `steps`, or `minutes` of training time where that ends earlier
    (then the number of steps depends on the machine).
    """

    train: tuple[Source, ...]
    dev: tuple[str, ...]
    output: str
    languages: tuple[str, ...] = LANGUAGES
    tokens: Optional[str] = None  # a tokens.txt; None: the token table of uyir.lexicon
    #: The token table of uyir.lexicon with ``|``, the end of a word, which the network then learns to hear.
    word_ends: bool = False
    initial: Optional[str] = None  # model folder to start from
    #: CTranslate2 ``model.bin`` of Whisper, whole or in parts, to start a whisper encoder from.
    pretrained: tuple[str, ...] = ()
    #: Name on the Hugging Face hub, or a folder in its format, of the Whisper or wav2vec 2.0 encoder to start
    #: from (`uyir.asr.hub`). It says itself what shape and frontend the model has.
    hub: Optional[str] = None
    seed: int = 1
    model: dict[str, Any] = field(default_factory=dict)  # fields of ModelConfig
    frontend: dict[str, Any] = field(default_factory=dict)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    batch_seconds: float = 1200.0
    min_seconds: float = 0.3
    max_seconds: float = 30.0
    #: Silence before and after each utterance, from 0 to this, so that short words are heard whole.
    pad_seconds: float = 0.4
    workers: int = 8
    steps: int = 3000
    minutes: Optional[float] = None
    peak_lr: float = 0.002
    pretrained_lr: float = 1.0  # rate of pretrained weights, times peak_lr
    #: Rate of each encoder block, times that of the block above it (the convolutions are the lowest).
    layer_decay: float = 1.0
    #: Convolutions and the first so many encoder blocks stay as they are; 0: the convolutions only.
    frozen_layers: Optional[int] = None
    #: Rank of low-rank adapters on the attention and feed-forward matrices of the blocks that are not
    #: frozen; the encoder's own weights then stay as they are. 0: none. Merged by export.
    lora_rank: int = 0
    lora_alpha: float = 16.0  # an adapter's product is scaled by lora_alpha / lora_rank
    #: Pull of the weights to those that the run started from, a unit of learning rate (L2-SP).
    anchor: float = 0.0
    warmup: float = 0.08
    weight_decay: float = 0.01
    clip: float = 2.0
    ema: float = 0.999
    inter_weight: float = 0.3  # of the loss, where the model has an inter_layer
    label_smoothing: float = 0.0  # share of the frames' divergence from uniform in the loss
    #: Share of lattice-free MMI (`uyir.asr.mmi`) in the loss; the rest is CTC. Wants k2.
    mmi_weight: float = 0.0
    mmi_pairs: int = 0  # histories of two phones in MMI's phone n-gram; 0: of one
    compile: bool = False  # the encoder's layers through torch.compile, where torch is 2 or newer
    tensorboard: bool = False  # the log for TensorBoard too, in OUTPUT/tensorboard
    log_steps: int = 20
    eval_steps: int = 500
    dev_utterances: int = 400  # a language
    save_seconds: float = 60.0
    #: Every so many steps a checkpoint is kept besides, ``checkpoint-STEP.pt``, for `uyir export` to average; 0: none.
    keep_steps: int = 0
    normalisation_batches: int = 10

    def __post_init__(self) -> None:
        if not self.train:
            raise DataError("no training manifest")
        positive = ("batch_seconds", "workers", "steps", "peak_lr", "clip", "log_steps")
        for name in (*positive, "eval_steps", "save_seconds", "normalisation_batches"):
            if not getattr(self, name) > 0:
                raise DataError(f"{name} is {getattr(self, name)}, want more than 0")
        for name in ("warmup", "ema", "inter_weight", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}, want at least 0 and below 1")
        if not 0 <= self.mmi_weight <= 1:
            raise DataError(f"mmi_weight is {self.mmi_weight}, want 0 to 1")
        for name in ("anchor", "lora_rank", "pad_seconds", "mmi_pairs", "keep_steps"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}, want at least 0")
        for name in ("layer_decay", "lora_alpha"):
            if not getattr(self, name) > 0:
                raise DataError(f"{name} is {getattr(self, name)}, want more than 0")
        if self.frozen_layers is not None and self.frozen_layers < 0:
            raise DataError(f"frozen_layers is {self.frozen_layers}, want at least 0")
        started = [n for n in ("initial", "pretrained", "hub") if getattr(self, n)]
        if len(started) > 1:
            raise DataError(f"both {' and '.join(started)} are given, want one to start from")
        if not started:
            for name, off in (("frozen_layers", None), ("lora_rank", 0), ("anchor", 0)):
                if getattr(self, name) != off:
                    raise DataError(f"{name} wants weights to keep: set initial, pretrained or hub")
        if self.hub and self.frontend:
            raise DataError("frontend is given, but the encoder of hub brings its own")
        shares = [source.share for source in self.train]
        total = sum(share or 0.0 for share in shares)
        if None in shares and total >= 1:
            raise DataError(f"the shares add up to {total:g} and leave nothing for other manifests")
        if None not in shares and abs(total - 1) > 1e-6:
            raise DataError(f"every manifest has a share, but they add up to {total:g}, want 1")


def read_config(path: Union[str, Path], base: Optional[Path] = None) -> TrainConfig:
    """Read a training configuration; raises `DataError` naming the file and what is wrong.

    Relative paths in it are relative to `base`, by default its own folder.
    """
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("no such configuration", path) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"not readable as YAML: {error}", path) from None
    if not isinstance(values, dict):
        raise DataError("want a mapping of settings", path)
    try:
        return _config_from(values, path.parent if base is None else base)
    except DataError as error:
        raise DataError(str(error), path) from None
    except (TypeError, ValueError) as error:
        raise DataError(f"configuration: {error}", path) from None


def _config_from(values: dict[str, Any], base: Path) -> TrainConfig:
    values = dict(values)
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    for name in values:
        if name not in known:
            raise DataError(f"unknown setting {name!r}")
    for name in ("train", "dev", "output"):
        if name not in values:
            raise DataError(f"setting {name!r} is missing")
    sources = []
    for entry in values["train"]:
        entry = {"manifest": entry} if isinstance(entry, str) else dict(entry)
        sources.append(Source(str(base / entry.pop("manifest")), **entry))
    values["train"] = tuple(sources)
    values["dev"] = tuple(str(base / entry) for entry in values["dev"])
    for name in ("output", "tokens", "initial"):
        if values.get(name) is not None:
            values[name] = str(base / values[name])
    augment: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in dict(values.get("augment") or {}).items()
    }
    values["augment"] = AugmentConfig(**augment)
    for name in ("languages", "pretrained"):
        if name in values:
            values[name] = tuple(values[name])
    values["pretrained"] = tuple(str(base / part) for part in values.get("pretrained", ()))
    if values.get("hub") is not None and (base / values["hub"]).exists():
        values["hub"] = str(base / values["hub"])
    return TrainConfig(**values)
