"""Adapting a model to a few recordings: a short, careful training and a check on held-out ones."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Union

import torch

from uyir.asr.augment import AugmentConfig
from uyir.asr.checkpoint import load_model, save_model
from uyir.asr.config import Source, TrainConfig
from uyir.asr.corpus import read_corpus
from uyir.asr.model import CtcModel
from uyir.asr.prepare import MAX_SECONDS, prepare, split, write_left_out, write_manifest
from uyir.asr.train import Trainer, longest
from uyir.errors import DataError

#: What few recordings need: speeds and rooms of their own, hardly any noise.
LIGHT = AugmentConfig(
    speed=(0.92, 1.08),
    reverberation=0.2,
    colour=0.3,
    telephone=0.0,
    low_pass=0.05,
    noise=0.2,
    babble=0.0,
    snr_db=(10.0, 30.0),
    mu_law=0.0,
    level_db=(-30.0, -14.0),
)
#: Shares of the adapted weights that are tried on the held-out recordings; 0 is the model as it was.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_BATCH_SECONDS = 40.0
_PAD_SECONDS = 0.3


@dataclass(frozen=True)
class Adapted:
    """What an adaptation came to; error rates are greedy, of phones, on the held-out recordings."""

    folder: Path
    utterances: int
    seconds: float
    held_out: int
    left_out: str  # summary of what could not be used
    steps: int
    share: float  # of the adapted weights in the written model
    before: Optional[float]
    after: Optional[float]


def adapt(
    recordings: Union[str, Path],
    model: Union[str, Path],
    output: Union[str, Path],
    *,
    language: Optional[str] = None,
    graphs: Optional[str] = None,
    minutes: float = 4.0,
    passes: float = 12.0,
    learning_rate: float = 1e-4,
    frozen_layers: int = 0,
    held_out: float = 0.15,
    weights: str = "int8",
    device: Optional[str] = None,
    seed: int = 1,
    say: Callable[[str], None] = print,
) -> Adapted:
    """Adapt a model folder to recordings with transcripts and write the result as a model folder.

    Trains for `passes` over the recordings, or `minutes` where they are over earlier. A share
    `held_out` of the seconds is never trained on; on these the adapted weights, mixed with the old
    ones in several shares, are compared, and the best mixture is written: recordings that teach
    nothing leave the model as it was. With 4 recordings or fewer all are trained on, and nothing is
    compared. Raises `DataError` where no recording can be used.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError("there is something in it already; name a new folder", output)
    loaded = load_model(model)
    corpus = read_corpus(recordings)
    limit = longest(loaded.model.config, MAX_SECONDS, _PAD_SECONDS, LIGHT.speed[0])
    rows = prepare(corpus, language, max_seconds=limit, thorough=True, say=say)
    known = loaded.model.config.languages
    for row in [row for row in rows if row.language not in known]:
        corpus.problem("of another language", row.spoken.id, f"the model knows {', '.join(known)}")
    rows = [row for row in rows if row.language in known]
    if not rows:
        reasons = corpus.summary()
        raise DataError(f"no recording that can be used: {reasons}", recordings)
    train, dev = split(rows, held_out, seed) if len(rows) > 4 and held_out > 0 else (rows, [])
    seconds = sum(row.duration for row in train)
    say(f"{len(train)} recordings, {seconds / 60:.1f} min; {len(dev)} held out")
    if corpus.problems:
        say(f"left out: {corpus.summary()}")
    with tempfile.TemporaryDirectory(prefix="uyir-adapt-") as scratch:
        work = Path(scratch)
        write_manifest(work / "train.tsv", train)
        write_manifest(work / "dev.tsv", dev)
        (work / "tokens.txt").write_text(
            "".join(f"{token} {number}\n" for number, token in enumerate(loaded.tokens)),
            encoding="utf-8",
        )
        batches = max(1, math.ceil(seconds / _BATCH_SECONDS))
        shape = loaded.model.config.to_dict()
        config = TrainConfig(
            train=(Source(str(work / "train.tsv")),),
            dev=(str(work / "dev.tsv"),),
            output=str(work / "run"),
            languages=known,
            tokens=str(work / "tokens.txt"),
            initial=str(model),
            seed=seed,
            model={k: v for k, v in shape.items() if k not in ("tokens", "languages", "frontend")},
            frontend=shape["frontend"],
            augment=LIGHT,
            batch_seconds=_BATCH_SECONDS,
            max_seconds=MAX_SECONDS,
            pad_seconds=_PAD_SECONDS,
            workers=2,
            steps=max(1, round(passes * batches)),
            minutes=minutes,
            peak_lr=learning_rate,
            layer_decay=0.9,
            frozen_layers=min(frozen_layers, loaded.model.config.layers),
            ema=0.98,
            log_steps=max(1, batches),
            eval_steps=1 << 30,
            save_seconds=1e9,
        )
        trainer = Trainer(config, device, say)
        outcome = trainer.run()
        adapted = trainer.averaged_model()
        original = loaded.model.to(trainer.device)
        share, before, after = _choose(trainer, original, adapted, say)
    mixed = mix(original, adapted, share)
    save_model(output, mixed.cpu(), loaded.tokens, weights, graphs, like=model)
    if corpus.problems:
        write_left_out(output / "left_out.tsv", corpus)
    return Adapted(
        output,
        len(train),
        seconds,
        len(dev),
        corpus.summary(),
        outcome.progress.step,
        share,
        before,
        after,
    )


def mix(original: CtcModel, adapted: CtcModel, share: float) -> CtcModel:
    """A new model whose weights are `share` of the adapted ones and the rest of the original's."""
    mixed = CtcModel(original.config).to(original.mean.device)
    one, two = original.state_dict(), adapted.state_dict()
    mixed.load_state_dict({name: torch.lerp(one[name], two[name], share) for name in one})
    return mixed.eval()


def _choose(
    trainer: Trainer, original: CtcModel, adapted: CtcModel, say: Callable[[str], None]
) -> tuple[float, Optional[float], Optional[float]]:
    """The share of the adapted weights that hears the held-out recordings best."""
    if not trainer.dev:
        say("too few recordings to hold any out: nothing was compared")
        return 1.0, None, None
    tried: list[tuple[float, float, float]] = []
    for share in SHARES:
        rates, loss = trainer.measure(mix(original, adapted, share))
        rate = sum(rates.values()) / max(1, len(rates))
        say(f"share {share:.2f} adapted: phone error rate {rate:.4f}, loss {loss:.4f} (held out)")
        tried.append((rate, loss, share))
    # By error rate; among equals, by loss.
    best = min(tried)
    return best[2], tried[0][0], best[0]


def report(adapted: Adapted, languages: Sequence[str]) -> str:
    """A model card of the adapted model."""
    lines = [
        f"# {adapted.folder.name}",
        "",
        f"An adapted model for {', '.join(languages)}, made by `uyir adapt` from "
        f"{adapted.utterances} recordings ({adapted.seconds / 60:.1f} min, {adapted.steps} steps).",
        f"Share of the adapted weights: {adapted.share:.2f}.",
    ]
    if adapted.before is not None and adapted.after is not None:
        lines.append(
            f"Greedy phone error rate on {adapted.held_out} held-out recordings: "
            f"{adapted.before:.4f} before, {adapted.after:.4f} after. The share was chosen on these, "
            "so the second figure is somewhat flattering."
        )
    if adapted.left_out:
        lines.append(f"Left out: {adapted.left_out} (left_out.tsv).")
    return "\n".join(lines) + "\n"
