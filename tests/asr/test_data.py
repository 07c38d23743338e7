"""Manifests, batches and the loader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tones import TOKENS, write_tones

from uyir.asr.data import Loader, Utterance, bucketed_batches, read_manifest, select
from uyir.errors import DataError

HEADER = "id\taudio\tduration\tlanguage\ttext\tphones\n"


def utterance(number: int, seconds: float, tokens: tuple[int, ...] = (2, 3)) -> Utterance:
    return Utterance(f"u{number}", Path("x.i16"), 0, None, seconds, "ta", "", tokens)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a\ta.wav\tlong\tta\tx\ta k", "duration 'long'"),
        ("a\ta.wav\t-1\tta\tx\ta k", "duration '-1'"),
        ("a\ta.wav\tnan\tta\tx\ta k", "duration 'nan'"),
        ("a\ta.wav\t1\tta\tx\ta zh", "'zh' is no token"),
        ("a\ta.wav\t1\tta\tx\t", "'a' has no phones"),
        ("b\ta.wav\t1\tta\tx\ta", "id 'b' stands twice"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "m.tsv"
    path.write_text(HEADER + "b\tb.wav\t1\tta\tx\ta\n" + row + "\n")
    with pytest.raises(DataError) as error:
        read_manifest(path, TOKENS)
    assert f"{path}:3: {message}" in str(error.value)


def test_shards_and_files_hold_the_same(tmp_path: Path) -> None:
    in_shard = read_manifest(write_tones(tmp_path / "s", 5), TOKENS)
    in_files = read_manifest(write_tones(tmp_path / "f", 5, shards=False), TOKENS)
    rows = [list(range(5))]
    one = next(Loader(in_shard, ["ta"]).load(rows, 0))
    two = next(Loader(in_files, ["ta"]).load(rows, 0))
    assert torch.equal(one.lengths, two.lengths)
    assert torch.equal(one.samples, two.samples)
    assert torch.equal(one.targets, two.targets)
    assert one.target_lengths.tolist() == [len(u.tokens) for u in in_shard]


def test_lhotse_cuts(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    manifest = write_tones(tmp_path, 4, shards=False)
    wanted = read_manifest(manifest, TOKENS)
    cuts = []
    for row in wanted:
        recording = lhotse.Recording.from_file(row.path, recording_id=row.id)
        supervision = lhotse.SupervisionSegment(
            row.id,
            row.id,
            0,
            recording.duration,
            text="x",
            language="ta",
            custom={"phones": " ".join(TOKENS[token] for token in row.tokens)},
        )
        cuts.append(
            lhotse.MonoCut(
                row.id, 0, recording.duration, 0, recording=recording, supervisions=[supervision]
            )
        )
    path = tmp_path / "cuts.jsonl.gz"
    lhotse.CutSet.from_cuts(cuts).to_file(path)
    found = read_manifest(path, TOKENS)
    assert [u.tokens for u in found] == [u.tokens for u in wanted]
    one = next(Loader(found, ["ta"]).load([[0, 1, 2, 3]], 0))
    two = next(Loader(wanted, ["ta"]).load([[0, 1, 2, 3]], 0))
    assert torch.equal(one.samples, two.samples)


def test_selection_counts_what_it_leaves_out() -> None:
    crowded = utterance(3, 1.0, tuple([2] * 13))  # 13 tokens and 12 blanks in 25 frames: fits
    rows = [
        utterance(0, 0.1),
        utterance(1, 99),
        utterance(2, 2.0),
        crowded,
        utterance(4, 1.0, (2, 3) * 13),
    ]
    kept, left = select(rows, ["ta"], 0.3, 30)
    assert [u.id for u in kept] == ["u2", "u3"]
    assert (left.too_short, left.too_long) == (["u0"], ["u1"])
    assert left.more_tokens_than_frames == ["u4"]
    kept, left = select(rows, ["ta"], 0.3, 30, fastest=1.1)
    assert [u.id for u in kept] == ["u2"]
    assert select(rows, ["kn"], 0.3, 30)[1].summary() == "5 unknown language"


def test_batches_hold_everything_once_within_the_limit() -> None:
    rng = np.random.default_rng(0)
    rows = [utterance(n, float(s)) for n, s in enumerate(rng.uniform(0.5, 15, size=700))]
    batches = bucketed_batches(rows, 60, seed=4)
    assert sorted(row for batch in batches for row in batch) == list(range(700))
    padded = 0.0
    for batch in batches:
        longest = max(rows[row].duration for row in batch)
        assert len(batch) * longest <= 60
        padded += len(batch) * longest
    assert padded < 1.12 * sum(row.duration for row in rows)
    assert batches == bucketed_batches(rows, 60, seed=4)
    assert batches != bucketed_batches(rows, 60, seed=5)


def test_an_utterance_longer_than_a_batch_is_one() -> None:
    batches = bucketed_batches([utterance(0, 90), utterance(1, 5), utterance(2, 5)], 60, 0)
    assert sorted(map(sorted, batches)) == [[0], [1, 2]]


def test_loading_is_in_order_and_repeatable(tmp_path: Path) -> None:
    rows = read_manifest(write_tones(tmp_path, 20), TOKENS)
    batches = bucketed_batches(rows, 4, 1)
    loader = Loader(rows, ["ta"], pad_seconds=0.2, workers=3)
    whole = list(loader.load(batches, 7))
    assert [b.number for b in whole] == list(range(len(batches)))
    assert [b.ids for b in whole] == [[rows[r].id for r in batch] for batch in batches]
    rest = list(loader.load(batches, 7, start=2))
    for one, two in zip(whole[2:], rest):
        assert torch.equal(one.samples, two.samples)
    assert any(
        not torch.equal(one.lengths, two.lengths)
        for one, two in zip(whole, loader.load(batches, 8))
    )


def test_unreadable_audio_is_left_out_and_named(tmp_path: Path) -> None:
    rows = read_manifest(write_tones(tmp_path, 6, shards=False), TOKENS)
    rows[1].path.write_text("no audio")
    rows[4].path.unlink()
    loader = Loader(rows, ["ta"])
    batches = list(loader.load([[0, 1, 2], [4], [3, 5]], 0))
    assert [b.ids for b in batches] == [["u0", "u2"], ["u3", "u5"]]
    assert [b.number for b in batches] == [0, 2]
    assert sorted(loader.unreadable) == ["u1", "u4"]
    assert "no such file" in loader.unreadable["u4"]


def test_a_shard_cut_short_is_noticed(tmp_path: Path) -> None:
    rows = read_manifest(write_tones(tmp_path, 3), TOKENS)
    shard = tmp_path / "tones.i16"
    shard.write_bytes(shard.read_bytes()[:-2000])
    loader = Loader(rows, ["ta"])
    assert next(loader.load([[0, 1, 2]], 0)).ids == ["u0", "u1"]
    assert "there are" in loader.unreadable["u2"]
