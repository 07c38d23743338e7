"""Corpora in every layout, good entries and bad ones, to manifests and other toolkits' formats."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from uyir.asr.corpus import Corpus, Spoken, read_corpus
from uyir.asr.data import Loader, read_manifest
from uyir.asr.files import write_whole
from uyir.asr.prepare import (
    Prepared,
    phones_of,
    prepare,
    split,
    write_kaldi,
    write_left_out,
    write_lhotse,
    write_manifest,
    write_nemo,
)
from uyir.errors import DataError
from uyir.lexicon.symbols import SPOKEN_NOISE, tokens_table

SENTENCES = {"a1": "ನಾನು ಮನೆಗೆ ಹೋದೆ", "a2": "ಮಳೆ ಬಂತು", "b1": "ಅವನು ಬಂದನು"}


def sound(path: Path, seconds: float = 1.5, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(path)))
    soundfile.write(str(path), 0.1 * rng.normal(size=round(seconds * rate)), rate)
    return path


def make_folder(folder: Path) -> Path:
    for name, text in SENTENCES.items():
        sound(folder / f"{name}.wav")
        (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    return folder


def make_kaldi(folder: Path) -> Path:
    for name in SENTENCES:
        sound(folder / f"{name}.wav")
    lines = {
        "wav.scp": [f"{name} {name}.wav" for name in SENTENCES],
        "text": [f"{name} {text}" for name, text in SENTENCES.items()],
        "utt2spk": [f"{name} {name[0]}" for name in SENTENCES],
    }
    for name, rows in lines.items():
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def make_nemo(folder: Path) -> Path:
    rows = []
    for name, text in SENTENCES.items():
        sound(folder / f"{name}.wav")
        entry = {"audio_filepath": f"{name}.wav", "duration": 1.5, "text": text, "id": name}
        rows.append(json.dumps(entry, ensure_ascii=False))
    path = folder / "train.json"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def make_csv(folder: Path) -> Path:
    path = folder / "all.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "sentence", "client_id", "id"])
        for name, text in SENTENCES.items():
            sound(folder / f"{name}.wav")
            writer.writerow([f"{name}.wav", text, name[0], name])
    return path


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize("make", [make_folder, make_kaldi, make_nemo, make_csv])
def test_every_layout_gives_the_same(tmp_path: Path, make: Any) -> None:
    corpus = read_corpus(make(tmp_path / "c"))
    assert not corpus.problems
    assert {s.id: s.text for s in corpus.spoken} == SENTENCES
    if make in (make_kaldi, make_csv):
        assert {s.id: s.speaker for s in corpus.spoken} == {"a1": "a", "a2": "a", "b1": "b"}
    rows = prepare(corpus, "kn", say=quiet)
    assert not corpus.problems
    assert [row.duration for row in rows] == [1.5] * 3
    write_manifest(tmp_path / "m.tsv", rows)
    read = read_manifest(tmp_path / "m.tsv", list(tokens_table()))
    assert [(u.id, u.text, u.language) for u in read] == [
        (n, t, "kn") for n, t in SENTENCES.items()
    ]
    batch = next(Loader(read, ["kn"]).load([[0, 1, 2]], 0))
    assert batch.lengths.tolist() == [24000] * 3


def prepared(folder: Path) -> list[Prepared]:
    """Two whole files of 8 kHz and 44.1 kHz, and two parts of a long one."""
    sound(folder / "one.wav", 1.0, 8000)
    sound(folder / "two.flac", 2.0, 44100)
    sound(folder / "long.wav", 5.0)
    spoken = [
        Spoken("one", folder / "one.wav", "ಮಳೆ ಬಂತು", "kn", "x"),
        Spoken("two", folder / "two.flac", "மழை வந்தது", "ta", "y"),
        Spoken("p1", folder / "long.wav", "ಮನೆ", "kn", "x", 0.5, 1.25),
        Spoken("p2", folder / "long.wav", "ಮನೆಗೆ", "kn", "x", 3.0, 2.0),
    ]
    rows = prepare(Corpus(spoken), say=quiet)
    assert len(rows) == 4
    return rows


@pytest.mark.parametrize("kind", ["kaldi", "nemo", "lhotse"])
def test_written_and_read_again(tmp_path: Path, kind: str) -> None:
    rows = prepared(tmp_path / "audio")
    where = tmp_path / "out"
    if kind == "kaldi":
        write_kaldi(where, rows)
        assert (where / "spk2utt").read_text() == "x one p1 p2\ny two\n"
        assert [line.split()[0] for line in (where / "text").open()] == ["one", "p1", "p2", "two"]
    elif kind == "nemo":
        where = where / "list.jsonl"
        write_nemo(where, rows)
    else:
        write_lhotse(where, rows)
    corpus = read_corpus(where)
    assert not corpus.problems
    again = {row.spoken.id: row for row in prepare(corpus, say=quiet)}
    assert again.keys() == {"one", "two", "p1", "p2"}
    for row in rows:
        found = again[row.spoken.id]
        assert found.duration == pytest.approx(row.duration, abs=1e-3)
        assert found.spoken.start == pytest.approx(row.spoken.start, abs=1e-3)
        assert (found.text, found.phones, found.language) == (row.text, row.phones, row.language)
        assert found.spoken.speaker == row.spoken.speaker
        assert found.spoken.audio.resolve() == row.spoken.audio.resolve()


def test_lhotse_itself_reads_what_is_written(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    rows = prepared(tmp_path / "audio")
    write_lhotse(tmp_path, rows)
    cuts = {cut.id: cut for cut in lhotse.CutSet.from_file(tmp_path / "cuts.jsonl")}
    for row in rows:
        cut = cuts[row.spoken.id]
        assert cut.duration == pytest.approx(row.duration)
        assert cut.supervisions[0].text == row.text
        assert cut.load_audio().shape[1] == round(row.duration * cut.sampling_rate)
    read = read_manifest(tmp_path / "cuts.jsonl", list(tokens_table()))
    assert [u.id for u in read] == ["one", "two", "p1", "p2"]


def test_lhotse_recordings_with_supervisions(tmp_path: Path) -> None:
    recordings, supervisions = [], []
    for name, text in SENTENCES.items():
        sound(tmp_path / f"{name}.wav")
        source = {"type": "file", "channels": [0], "source": f"{name}.wav"}
        recordings.append({"id": name, "sources": [source], "duration": 1.5})
        said = {"id": name, "recording_id": name, "start": 0.0, "duration": 1.5, "text": text}
        supervisions.append(said)
    supervisions.append({**supervisions[0], "id": "x", "recording_id": "none"})
    recordings.append({"id": "alone", "sources": [], "duration": 1.0})
    recordings.append(
        {"id": "cmd", "sources": [{"type": "command", "source": "rm"}], "duration": 1}
    )
    supervisions.append({**supervisions[0], "id": "y", "recording_id": "cmd"})
    for stem, rows in (("recordings", recordings), ("supervisions", supervisions)):
        with gzip.open(tmp_path / f"{stem}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    corpus = read_corpus(tmp_path)
    assert {s.id: s.text for s in corpus.spoken} == SENTENCES
    kinds = sorted(problem.kind for problem in corpus.problems)
    assert kinds == [
        "a command, not a file",
        "audio without transcript",
        "transcript without audio",
    ]


def test_bad_entries_are_counted_and_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "c")
    sound(folder / "alone.wav")
    (folder / "silent.txt").write_text("ಮಳೆ ಬಂತು")
    sound(folder / "tamil.wav")
    (folder / "tamil.txt").write_text("மழை வந்தது", encoding="utf-8")
    sound(folder / "english.wav")
    (folder / "english.txt").write_text("it rains", encoding="utf-8")
    sound(folder / "empty.wav")
    (folder / "empty.txt").write_text("  \n", encoding="utf-8")
    sound(folder / "hour.wav", 60.5)
    (folder / "hour.txt").write_text("ಮಳೆ ಬಂತು", encoding="utf-8")
    (folder / "rubbish.wav").write_bytes(b"RIFF but no sound")
    (folder / "rubbish.txt").write_text("ಮಳೆ ಬಂತು", encoding="utf-8")
    sound(folder / "latin1.wav")
    (folder / "latin1.txt").write_bytes(b"\xff\xfe\xfa")
    (folder / "README.txt").write_text("about this corpus")
    corpus = read_corpus(folder)
    rows = prepare(corpus, "kn", thorough=True, say=quiet)
    assert sorted(row.spoken.id for row in rows) == sorted(SENTENCES)
    reasons = {Path(p.where).name.split(".")[0]: p.kind for p in corpus.problems}
    assert reasons == {
        "alone": "audio without transcript",
        "silent": "transcript without audio",
        "tamil": "of another language",
        "english": "of another language",
        "empty": "audio without transcript",
        "hour": "longer than 60 s",
        "rubbish": "unreadable audio",
        "latin1": "unreadable transcript",
    }
    assert "2 of another language" in corpus.summary()
    write_left_out(tmp_path / "left_out.tsv", corpus)
    listed = (tmp_path / "left_out.tsv").read_text(encoding="utf-8").splitlines()
    assert len(listed) == 9
    assert any("rubbish" in line and "unreadable audio" in line for line in listed)


def test_bad_kaldi_and_json_entries(tmp_path: Path) -> None:
    folder = make_kaldi(tmp_path / "k")
    (folder / "wav.scp").open("a").write("pipe sox in.wav -t wav - |\nmore more.wav\n")
    (folder / "text").open("a", encoding="utf-8").write("ghost ಮಳೆ\npipe ಮಳೆ\n")
    corpus = read_corpus(folder)
    assert len(corpus.spoken) == 3
    assert {p.where: p.kind for p in corpus.problems} == {
        "pipe": "a command, not a file",
        "more": "audio without transcript",
        "ghost": "transcript without audio",
    }
    nemo = make_nemo(tmp_path / "n")
    with nemo.open("a", encoding="utf-8") as file:
        file.write('\n{"text": "ಮಳೆ"}\n{"audio_filepath": "x.wav"}\n[]\n{broken\n')
    corpus = read_corpus(nemo)
    assert len(corpus.spoken) == 3
    assert [p.kind for p in corpus.problems] == [
        "transcript without audio",
        "audio without transcript",
        "malformed",
        "malformed",
    ]
    assert corpus.problems[-1].where.endswith("train.json:7")


def test_what_is_no_corpus_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such corpus"):
        read_corpus(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no recordings with transcripts"):
        read_corpus(tmp_path / "empty")
    (tmp_path / "x.csv").write_text("one,two\n1,2\n")
    with pytest.raises(DataError, match="no column of audio"):
        read_corpus(tmp_path / "x.csv")
    (tmp_path / "x.jsonl").write_text("not json\n")
    with pytest.raises(DataError, match=r"x\.jsonl:1: not JSON Lines"):
        read_corpus(tmp_path / "x.jsonl")
    (tmp_path / "x.docx").write_text("")
    with pytest.raises(DataError, match="want a folder"):
        read_corpus(tmp_path / "x.docx")


def test_parts_beyond_the_end_are_left_out(tmp_path: Path) -> None:
    sound(tmp_path / "s.wav", 2.0)
    spoken = [
        Spoken("late", tmp_path / "s.wav", "ಮಳೆ", start=3.0, duration=1.0),
        Spoken("over", tmp_path / "s.wav", "ಮಳೆ", start=1.0, duration=4.0),
        Spoken("fits", tmp_path / "s.wav", "ಮಳೆ", start=1.0, duration=1.2),
    ]
    corpus = Corpus(spoken)
    assert [(row.spoken.id, row.duration) for row in prepare(corpus, "kn", say=quiet)] == [
        ("fits", 1.0)
    ]
    assert [p.kind for p in corpus.problems] == ["unreadable audio"] * 2


def test_tags_and_unknown_words_are_spoken_noise() -> None:
    text, phones = phones_of("<noise> ಮಳೆ [laughter] hello ಮಳೆ <unk>", "kn")
    rain = phones_of("ಮಳೆ", "kn")[1]
    assert phones == (SPOKEN_NOISE, *rain, SPOKEN_NOISE, *rain, SPOKEN_NOISE)
    assert text == "ಮಳೆ hello ಮಳೆ"
    assert SPOKEN_NOISE in list(tokens_table())


def test_numbers_are_read_out() -> None:
    assert phones_of("25 மழை", "ta") == phones_of("இருபத்தைந்து மழை", "ta")


def row(name: str, speaker: str, seconds: float = 1.0) -> Prepared:
    spoken = Spoken(name, Path("x.wav"), "ಮಳೆ", "kn", speaker)
    return Prepared(spoken, seconds, "kn", "ಮಳೆ", ("m",))


def test_held_out_speakers_are_in_one_part_alone() -> None:
    rows = [row(f"{s}{i}", f"s{s}") for s in range(20) for i in range(10)]
    train, dev = split(rows, 0.1)
    assert not {r.spoken.speaker for r in train} & {r.spoken.speaker for r in dev}
    assert len(dev) == 20
    assert split(rows, 0.1) == (train, dev)
    train, dev = split([row(str(i), "one") for i in range(20)], 0.2)
    assert (len(train), len(dev)) == (16, 4)
    assert split([row("a", "x")], 0.5)[1] == []


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "manifest.tsv"
    write_whole(path, "before")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"manifest\.tsv: cannot be written: No space left"):
        write_whole(path, "after")
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.tsv"]
    assert path.read_bytes() == b"before"
