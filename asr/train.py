"""The training loop: one for every recipe, driven by a YAML file (`TrainConfig`).

Everything random is drawn from (seed, step), so a run that was killed and resumed from its last
checkpoint goes on with the very batches and noise that it would have had. Checkpoints are tensors
and plain values, read back with `weights_only`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import torch

from uyir.asr.augment import WaveAugment, spec_augment, time_mask, warp_tract
from uyir.asr.checkpoint import read_tokens
from uyir.asr.config import TrainConfig
from uyir.asr.data import (
    Batch,
    Loader,
    Mixture,
    Utterance,
    bucketed_batches,
    read_manifest,
    select,
)
from uyir.asr.export import CHECKPOINT_VERSION, read_checkpoint
from uyir.asr.features import make_frontend
from uyir.asr.files import write_whole
from uyir.asr.losses import ctc_loss, edit_distance, uniform_loss
from uyir.asr.model import CtcModel, ModelConfig, greedy
from uyir.asr.parallel import Processes, default_device
from uyir.asr.tuning import (
    Anchor,
    add_adapters,
    anchored_names,
    freeze,
    frozen_modules,
    merge_adapters,
    parameter_groups,
)
from uyir.errors import DataError, ModelError

if TYPE_CHECKING:
    from uyir.asr.hub import Pretrained
    from uyir.asr.mmi import Mmi

#: Seconds a batch from which on training on a CPU is warned about.
LARGE_ON_CPU = 300.0
#: Steps in a row without a finite loss after which a run gives up.
HOPELESS = 50


@dataclass
class Progress:
    """Where a run stands; stored in every checkpoint."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # of the epoch, the next one
    seconds: float = 0.0  # of training so far, in all sittings
    audio_seconds: float = 0.0
    skipped: int = 0  # steps whose loss or gradient was not finite


@dataclass(frozen=True)
class Outcome:
    """What a sitting came to."""

    finished: bool
    progress: Progress
    dev: dict[str, float]  # language -> greedy token error rate of the averaged weights


class Trainer:
    """Trains a `CtcModel` as a `TrainConfig` says; `run` may be called in several sittings."""

    def __init__(
        self,
        config: TrainConfig,
        device: Optional[str] = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.config = config
        self.device = torch.device(device) if device else default_device()
        self.processes = Processes.start(self.device)
        self.say = say if self.processes.first else _nothing
        self.output = Path(config.output)
        self.tokens = _tokens(config)
        self.hub = self._read_hub()
        shape = self._model_config()
        self.mixture, self.dev = self._read_data(shape)
        self.frontend = make_frontend(shape.frontend)
        self.augment = WaveAugment(config.augment)
        self._centres = self.frontend.centres().to(self.device)
        self.mmi = self._make_mmi() if config.mmi_weight else None
        self.progress = Progress()
        torch.manual_seed(config.seed)
        self.model = CtcModel(shape).to(self.device)
        if config.initial is not None:
            self._load_initial(config.initial)
        elif config.pretrained:
            self._load_pretrained(config.pretrained)
        elif self.hub is not None:
            getattr(self.model, shape.encoder).load_state_dict(self.hub.state)
        if config.lora_rank:
            add_adapters(self.model, config.lora_rank, config.lora_alpha, config.frozen_layers or 0)
        freeze(self.model, config.frozen_layers, config.lora_rank > 0)
        self._frozen = frozen_modules(self.model)
        self.average = {
            n: v.detach().clone() for n, v in self.model.named_parameters() if v.requires_grad
        }
        self.anchor, self.optimiser = self._make_optimiser()
        processes = self.processes
        self._network: Callable[..., Any] = self._compiled() if config.compile else self.model
        self._board = self._tensorboard() if config.tensorboard else None
        self.loader = self._make_loader(
            self.mixture.utterances, config.pad_seconds, (processes.rank, processes.world)
        )
        self._stop = False
        self._in_a_row = 0  # steps that were not finite

    # -- set-up ------------------------------------------------------------------------------

    def _read_hub(self) -> Optional[Pretrained]:
        if self.config.hub is None:
            return None
        from uyir.asr.hub import read_hub

        return read_hub(self.config.hub)

    def _read_data(self, shape: ModelConfig) -> tuple[Mixture, list[Utterance]]:
        config = self.config
        train = Mixture()
        for source in config.train:
            rows = read_manifest(source.manifest, self.tokens)
            kept, left = select(
                rows,
                config.languages,
                config.min_seconds,
                longest(shape, config.max_seconds, config.pad_seconds, config.augment.speed[0]),
                config.augment.fastest,
            )
            hours = sum(u.duration for u in kept) / 3600
            note = f" x {source.repeat}" if source.repeat != 1 else ""
            if source.share is not None:
                note = f", for {source.share:g} of an epoch"
            if left.summary():
                note += f"; left out: {left.summary()}"
            self.say(f"{source.manifest}: {len(kept)} utterances, {hours:.2f} h{note}")
            train.add(kept, source.repeat, source.share)
        if not train.utterances:
            raise DataError("no utterance to train on", config.train[0].manifest)
        dev: list[Utterance] = []
        for path in config.dev:
            kept, left = select(
                read_manifest(path, self.tokens),
                config.languages,
                config.min_seconds,
                longest(shape, config.max_seconds),
            )
            for language in config.languages:
                dev += [u for u in kept if u.language == language][: config.dev_utterances]
            if left.summary():
                self.say(f"{path}: left out: {left.summary()}")
        return train, dev

    def _make_mmi(self) -> Mmi:
        from uyir.asr.mmi import Mmi, PhoneLm

        rows, pairs = self.mixture.utterances, self.config.mmi_pairs
        lms = [
            PhoneLm((u.tokens for u in rows if u.language == language), len(self.tokens), pairs)
            for language in self.config.languages
        ]
        return Mmi(lms, self.device)

    def _model_config(self) -> ModelConfig:
        brought, frontend = {}, self.config.frontend
        if self.hub is not None:
            brought, frontend = self.hub.model, self.hub.frontend
            for name, value in self.config.model.items():
                if brought.get(name, value) != value:
                    raise ModelError(
                        f"{self.config.hub}: its {name} is {brought[name]}, model says {value}"
                    )
        return ModelConfig.from_dict(
            {
                **self.config.model,
                **brought,
                "tokens": len(self.tokens),
                "languages": self.config.languages,
                "frontend": frontend,
            }
        )

    def _load_initial(self, folder: str) -> None:
        from uyir.asr.checkpoint import load_model

        loaded = load_model(folder)
        if loaded.tokens != self.tokens:
            raise ModelError(f"{folder}: its tokens are not those of this run")
        try:
            self.model.load_state_dict(loaded.model.state_dict())
        except RuntimeError as error:
            raise ModelError(f"{folder}: does not fit this configuration: {error}") from None

    def _load_pretrained(self, parts: tuple[str, ...]) -> None:
        from uyir.asr.whisper import encoder_state, read_ctranslate2

        if self.model.config.encoder != "whisper":
            raise ModelError(f"{parts[0]}: pretrained weights are for a whisper encoder")
        try:
            self.model.whisper.load_state_dict(encoder_state(read_ctranslate2(parts)))
        except RuntimeError as error:
            raise ModelError(f"{parts[0]}: does not fit this configuration: {error}") from None

    def _make_optimiser(self) -> tuple[Anchor, torch.optim.Optimizer]:
        """AdamW, and the pull to where the weights started (`uyir.asr.tuning`)."""
        config = self.config
        whole = config.initial is not None
        anchored = anchored_names(self.model, whole) if config.anchor else []
        options: dict[str, Any] = {}
        if self.device.type == "cuda" and int(torch.__version__.split(".")[0]) >= 2:
            options["fused"] = True
        groups = parameter_groups(
            self.model, config.weight_decay, config.pretrained_lr, config.layer_decay, anchored
        )
        optimiser = torch.optim.AdamW(groups, lr=config.peak_lr, betas=(0.9, 0.98), **options)
        return Anchor(self.model, anchored, config.anchor), optimiser

    def _compiled(self) -> Callable[..., Any]:
        if not hasattr(torch, "compile"):
            raise ModelError(f"compile wants torch 2 or newer, this is {torch.__version__}")
        # Lengths change with every batch.
        compiled: Callable[..., Any] = torch.compile(self.model, dynamic=True)
        return compiled

    def _tensorboard(self) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ModelError(
                "tensorboard is not installed: pip install 'uyir[tensorboard]', or set tensorboard: false"
            ) from None
        if not self.processes.first:
            return None
        return SummaryWriter(str(self.output / "tensorboard"))  # type: ignore[no-untyped-call,unused-ignore]

    def _make_loader(
        self,
        utterances: Sequence[Utterance],
        pad_seconds: float,
        share: tuple[int, int] = (0, 1),
    ) -> Loader:
        return Loader(
            utterances,
            self.config.languages,
            pad_seconds,
            self.config.workers,
            pin=self.device.type == "cuda",
            share=share,
        )

    # -- one sitting -------------------------------------------------------------------------

    def run(self, stop_after: Optional[float] = None) -> Outcome:
        """Train from the last checkpoint on, to the end or for `stop_after` seconds.

        SIGTERM and SIGINT end the sitting after the step at hand, with a checkpoint; a second one ends it at once.
        """
        started = time.monotonic()
        if self._resume():
            self.say(f"resumed at step {self.progress.step}")
        elif self.config.initial is None:
            self._set_normalisation()
        parameters = sum(p.numel() for p in self.model.parameters())
        learning = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        note = f", {learning / 1e6:.2f} M of them learn" if learning < parameters else ""
        self.say(f"{parameters / 1e6:.2f} M parameters on {self.device}{note}")
        if self.device.type == "cpu" and self.config.batch_seconds > LARGE_ON_CPU:
            self.say(
                f"batches of {self.config.batch_seconds:g} s are made for a GPU: on a CPU each takes minutes, and "
                f"gigabytes of memory; try batch_seconds: 120"
            )
        if stop_after is not None:
            stop_after = max(0.0, stop_after - (time.monotonic() - started))
        handlers = self._catch_signals()
        try:
            self._loop(stop_after)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self._save()
        finished = self._done() >= 1
        dev = self.evaluate() if finished and self.processes.first else {}
        if self.loader.unreadable:
            self._report_unreadable()
        if self.progress.skipped:
            self.say(
                f"{self.progress.skipped} of {self.progress.step} steps were skipped: not finite"
            )
        return Outcome(finished, self.progress, dev)

    def _catch_signals(self) -> dict[int, Any]:
        def stop(number: int, frame: Any) -> None:
            self._stop = True
            # Asked again, it ends at once: a step may take long.
            signal.signal(number, handlers[number])

        handlers: dict[int, Any] = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                handlers[number] = signal.signal(number, stop)
            except ValueError:  # not the main thread: the caller's business
                break
        return handlers

    def _done(self) -> float:
        """How much of the run is done, 0 to 1."""
        done = self.progress.step / self.config.steps
        if self.config.minutes is not None:
            done = max(done, self.progress.seconds / (60 * self.config.minutes))
        return done

    def _loop(self, stop_after: Optional[float]) -> None:
        began = last = saved = time.monotonic()
        losses: list[float] = []
        waited = 0.0
        log_from = (began, self.progress.audio_seconds)
        batches = self._batches()
        while self._done() < 1 and not self._stop:
            asked = time.monotonic()
            if self.processes.world > 1:
                # What the clock and signals say must be the same everywhere.
                late = stop_after is not None and asked - began >= stop_after
                said = [self.progress.seconds, float(self._stop or late)]
                agreed = torch.tensor(said, dtype=torch.float64, device=self.device)
                self.progress.seconds, stopped = self.processes.add(agreed).tolist()
                self.progress.seconds /= self.processes.world
                self._stop = stopped > 0
                if self._stop or self._done() >= 1:
                    break
            elif stop_after is not None and asked - began >= stop_after:
                self.say(f"stopped after {asked - began:.0f} s at step {self.progress.step}")
                break
            batch = next(batches)
            waited += time.monotonic() - asked
            loss = self._step(batch)
            now = time.monotonic()
            self.progress.seconds += now - last
            last = now
            if loss is not None:
                losses.append(loss)
            step = self.progress.step
            if step % self.config.log_steps == 0:
                audio = self.progress.audio_seconds - log_from[1]
                span = now - log_from[0]
                self._log(
                    step=step,
                    epoch=self.progress.epoch,
                    loss=round(sum(losses) / max(1, len(losses)), 4),
                    lr=round(self._learning_rate(), 6),
                    audio_per_second=round(audio / span),
                    data_wait=round(waited / span, 3),
                    skipped=self.progress.skipped,
                    minutes=round(self.progress.seconds / 60, 2),
                    **self._memory(),
                )
                losses, waited, log_from = [], 0.0, (now, self.progress.audio_seconds)
            if step % self.config.eval_steps == 0 and self._done() < 1:
                if self.processes.first:
                    self.evaluate()
                log_from = (time.monotonic(), self.progress.audio_seconds)
                waited = 0.0
                last = log_from[0]
            if self.config.keep_steps and step % self.config.keep_steps == 0:
                self._save(f"checkpoint-{step}.pt")
                last = time.monotonic()
            if time.monotonic() - saved > self.config.save_seconds:
                self._save()
                saved = last = time.monotonic()

    def _memory(self) -> dict[str, float]:
        """The most memory that tensors have taken on the GPU, in GB."""
        if self.device.type != "cuda":
            return {}
        return {"peak_gb": round(torch.cuda.max_memory_allocated(self.device) / 1e9, 2)}

    def _batches(self) -> Iterator[Optional[Batch]]:
        """Batches of this process; None where it can read nothing of one that the others can."""
        while True:
            seed = self.config.seed * 100_003 + self.progress.epoch
            batches = self._epoch(seed)
            alone = self.processes.world == 1
            yielded = False
            load = self.loader.load if alone else self.loader.load_all
            for batch in load(batches, seed, self.progress.batch):
                yielded = True
                yield batch
            if not yielded and self.progress.batch == 0:
                self._report_unreadable()
                raise DataError("no utterance of the training data can be read")
            self.progress.epoch += 1
            self.progress.batch = 0

    def _epoch(self, seed: int) -> list[list[int]]:
        config, mixture = self.config, self.mixture
        rows = mixture.epoch(seed)
        return bucketed_batches(
            mixture.utterances, config.batch_seconds, seed, rows, config.pad_seconds
        )

    def _learning_rate(self) -> float:
        done = min(1.0, self._done())
        if done < self.config.warmup:
            # The first step's rate is not 0.
            return self.config.peak_lr * max(done / self.config.warmup, 1e-3)
        part = (done - self.config.warmup) / (1 - self.config.warmup)
        return self.config.peak_lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))

    def _generator(self) -> torch.Generator:
        """Random numbers of this step; dropout draws from the global generator, seeded alike."""
        seed = self.config.seed * 10_000_019 + self.progress.step + 7_919_999 * self.processes.rank
        torch.manual_seed(seed)
        generator = torch.Generator(device=self.device)
        generator.manual_seed(seed)
        return generator

    @torch.no_grad()
    def _features(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        waves = batch.samples.float() / 32768.0
        waves, lengths = self.augment(waves, batch.lengths, generator)
        return self.frontend.batch(waves, lengths)

    def _step(self, batch: Optional[Batch]) -> Optional[float]:
        """One update; returns the loss, or None where it or its gradient is not finite."""
        progress, config, processes = self.progress, self.config, self.processes
        self.model.train()
        for module in self._frozen:
            module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * self._learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros(3, dtype=torch.float64)
        if batch is not None:
            batch = batch.to(self.device)
            loss = self._loss(batch)
            loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
            seconds = float(batch.lengths.sum()) / self.frontend.config.sample_rate
            tokens = float(batch.target_lengths.sum())
            sums = torch.tensor([float(loss.detach()), tokens, seconds], dtype=torch.float64)
        summed, tokens, seconds = processes.add(sums.to(self.device)).tolist()
        processes.add_gradients(self.model.parameters(), max(tokens, 1.0))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        value = summed / max(tokens, 1.0)
        finite = math.isfinite(value) and math.isfinite(float(norm))
        if finite:
            self.optimiser.step()
            self.anchor.pull(self.optimiser)
            self._update_average()
            self._in_a_row = 0
        else:
            self._skip(value, float(norm), batch)
        progress.step += 1
        progress.batch = progress.batch + 1 if batch is None else batch.number + 1
        progress.audio_seconds += seconds
        return value if finite else None

    def _skip(self, loss: float, norm: float, batch: Optional[Batch]) -> None:
        """Count and say a step that is not taken; raises `DataError` when there were too many in a row."""
        self.progress.skipped += 1
        self._in_a_row += 1
        names = [] if batch is None else batch.ids
        if self._in_a_row <= 3:
            some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
            self.say(
                f"step {self.progress.step}: loss {loss:g}, gradient {norm:g}: not finite, the step is "
                f"skipped; its batch: {some}"
            )
        if self._in_a_row >= HOPELESS:
            raise DataError(
                f"the loss was not finite in {HOPELESS} steps one after the other, the last of them "
                f"{self.progress.step}: lower peak_lr, or start again from an earlier checkpoint"
            )

    def _loss(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch, summed over its rows."""
        config = self.config
        generator = self._generator()
        features, lengths = self._features(batch, generator)
        inputs = [features, lengths, batch.language]
        if self.frontend.config.kind == "waveform":
            inputs.append(time_mask(lengths, config.augment, generator))
        else:
            warped = warp_tract(features, self._centres, config.augment, generator)
            inputs[0] = spec_augment(warped, lengths, self.model.mean, config.augment, generator)
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            log_probs, out_lengths, inter = self._network(*inputs)
        loss = ctc_loss(log_probs, out_lengths, batch)
        if self.mmi is not None:
            against = self.mmi.loss(
                log_probs, out_lengths, batch.language, batch.targets, batch.target_lengths
            )
            loss = (1 - config.mmi_weight) * loss + config.mmi_weight * against
        if config.label_smoothing:
            loss = (1 - config.label_smoothing) * loss + config.label_smoothing * uniform_loss(
                log_probs, out_lengths
            )
        if inter is not None and config.inter_weight:
            loss = (1 - config.inter_weight) * loss + config.inter_weight * ctc_loss(
                inter, out_lengths, batch
            )
        return loss

    @torch.no_grad()
    def _update_average(self) -> None:
        step = self.progress.step
        keep = min(self.config.ema, (1 + step) / (10 + step))
        average = list(self.average.values())
        torch._foreach_mul_(average, keep)
        learning: list[torch.Tensor] = [p for p in self.model.parameters() if p.requires_grad]
        torch._foreach_add_(average, learning, alpha=1 - keep)

    @torch.no_grad()
    def _set_normalisation(self) -> None:
        """Global mean and deviation of the augmented features of the first batches."""
        seed = self.config.seed * 100_003
        batches = self._epoch(seed)
        total = torch.zeros(self.frontend.config.bins, dtype=torch.float64, device=self.device)
        square = torch.zeros_like(total)
        frames = 0
        # Every process hears all of them, and so finds the same.
        loader = self._make_loader(self.mixture.utterances, self.config.pad_seconds)
        for batch in loader.load(batches[: self.config.normalisation_batches], seed):
            generator = torch.Generator(device=self.device)
            generator.manual_seed(seed)
            features, lengths = self._features(batch.to(self.device), generator)
            total += features.double().sum(dim=(0, 1))  # frames past the end are zeros
            square += features.double().square().sum(dim=(0, 1))
            frames += int(lengths.sum())
        self.loader.unreadable.update(loader.unreadable)
        if not frames:
            self._report_unreadable()
            raise DataError("no utterance of the training data can be read")
        mean = total / frames
        deviation = (square / frames - mean.square()).clamp(min=0).sqrt()
        self.model.set_normalisation(mean.float(), deviation.float())

    # -- evaluation, logs, checkpoints -------------------------------------------------------

    def averaged_model(self) -> CtcModel:
        """A copy of the model with the averaged weights, in `eval` mode."""
        model = CtcModel(self.model.config).to(self.device)
        model.load_state_dict(merge_adapters({**self.model.state_dict(), **self.average}))
        return model.eval()

    def evaluate(self) -> dict[str, float]:
        """Greedy token error rate a language on the dev list, with the averaged weights."""
        if not self.dev:
            return {}
        rates, loss = self.measure(self.averaged_model())
        self._log(
            step=self.progress.step,
            dev_loss=round(loss, 4),
            **{f"dev_{name}": round(rate, 4) for name, rate in rates.items()},
        )
        return rates

    @torch.no_grad()
    def measure(self, model: CtcModel) -> tuple[dict[str, float], float]:
        """Greedy token error rate a language, and the mean loss, of a model on the dev list."""
        loader = self._make_loader(self.dev, 0.0)
        batches = bucketed_batches(self.dev, self.config.batch_seconds, 0)
        errors = dict.fromkeys(self.config.languages, 0)
        counts = dict.fromkeys(self.config.languages, 0)
        losses = []
        for batch in loader.load(batches, 0):
            batch = batch.to(self.device)
            features, lengths = self.frontend.batch(batch.samples, batch.lengths)
            log_probs, out_lengths, _ = model(features, lengths, batch.language)
            summed = float(ctc_loss(log_probs, out_lengths, batch))
            losses.append(summed / float(batch.target_lengths.sum()))
            found = greedy(log_probs, out_lengths)
            wanted = batch.targets.cpu()
            for row, (tokens, length) in enumerate(zip(found, batch.target_lengths.tolist())):
                language = self.config.languages[int(batch.language[row])]
                errors[language] += edit_distance(wanted[row, :length].tolist(), tokens)
                counts[language] += length
        rates = {name: errors[name] / n for name, n in counts.items() if n}
        return rates, sum(losses) / max(1, len(losses))

    def _log(self, **values: Any) -> None:
        if not self.processes.first:
            return
        self.say("  ".join(f"{name} {value}" for name, value in values.items()))
        if self._board is not None:
            for name, value in values.items():
                if name != "step":
                    self._board.add_scalar(name, value, values["step"])
            self._board.flush()
        path = self.output / "log.jsonl"
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise DataError(f"the log cannot be written: {error.strerror or error}", path) from None

    def _report_unreadable(self) -> None:
        for name, reason in sorted(self.loader.unreadable.items())[:20]:
            self.say(f"unreadable: {name}: {reason}")
        self.say(f"{len(self.loader.unreadable)} utterances could not be read and were left out")

    def _save(self, name: str = "checkpoint.pt") -> None:
        """Write a checkpoint whole or not at all: a kill leaves the one before."""
        if not self.processes.first:
            return
        path = self.output / name
        optimiser = self.optimiser.state_dict()
        state = {
            "version": CHECKPOINT_VERSION,
            "model_config": json.dumps(self.model.config.to_dict()),
            "tokens": list(self.tokens),
            "model": dict(self.model.state_dict()),
            "average": self.average,
            "moments": optimiser["state"],
            # torch 1.13 reads no Python floats with weights_only: these go as JSON.
            "groups": json.dumps(optimiser["param_groups"]),
            "progress": json.dumps(dataclasses.asdict(self.progress)),
        }
        # Not straight to the file: torch 1.13 aborts where a disk is full.
        written = io.BytesIO()
        torch.save(state, written)
        write_whole(path, written.getbuffer())

    def _resume(self) -> bool:
        path = self.output / "checkpoint.pt"
        if not path.exists():
            return False
        state = read_checkpoint(path)
        # Parsed: a setting that is newer than the checkpoint has its default there.
        if ModelConfig.from_dict(json.loads(state["model_config"])) != self.model.config:
            raise ModelError(f"{path}: of another model configuration; use another output folder")
        if tuple(state["tokens"]) != self.tokens:
            raise ModelError(f"{path}: of another token table; use another output folder")
        names = [n for n, p in self.model.named_parameters() if p.requires_grad]
        if list(state["average"]) != names or set(state["model"]) != set(self.model.state_dict()):
            raise ModelError(
                f"{path}: of a run that froze or adapted other layers; use another output folder"
            )
        self.model.load_state_dict(state["model"])
        self.average = {n: v.to(self.device) for n, v in state["average"].items()}
        groups = json.loads(state["groups"])
        self.optimiser.load_state_dict({"state": state["moments"], "param_groups": groups})
        self.progress = Progress(**state["progress"])
        return True


def longest(
    shape: ModelConfig, max_seconds: float, pad_seconds: float = 0.0, slowest: float = 1.0
) -> float:
    """Seconds that an utterance may last: Whisper hears 30 s, padding and slowing included."""
    if shape.encoder != "whisper":
        return max_seconds
    return min(max_seconds, 30.0 * slowest - 2 * pad_seconds)


def _nothing(line: str) -> None:
    """What processes but the first say."""


def _tokens(config: TrainConfig) -> tuple[str, ...]:
    if config.tokens is not None:
        return read_tokens(config.tokens)
    from uyir.lexicon.symbols import tokens_table

    table = tokens_table(config.word_ends)
    return tuple(table.symbol(number) for number in range(len(table)))
