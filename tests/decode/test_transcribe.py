from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from uyir.cli import main
from uyir.decode.engines import SearchOptions, why_not
from uyir.decode.transcribe import find_model, load
from uyir.errors import AudioError, DataError, GraphError, ModelError
from uyir.grammar.script import NORMALISER_VERSION
from uyir.grammar.segment import Segmentation, Subword
from uyir.lexicon.g2p import load_g2p
from uyir.lexicon.symbols import tokens_table

RATE = 16000


def phones_of(word, language):
    return load_g2p(language).pronounce(word, variants=False)[0].phones


class Speaking:
    """Replaces a recogniser's network: what it hears is given as (word, frame it begins at)."""

    def __init__(self, language, said, frames):
        tokens = tokens_table()
        self.rows = [0] * frames
        for word, at in said:
            for i, phone in enumerate(phones_of(word, language)):
                self.rows[at + 2 * i] = self.rows[at + 2 * i + 1] = tokens.id(phone)
        self.size = len(tokens)
        self.asked = []

    def __call__(self, waves, language):
        self.asked.append([len(wave) for wave in waves])
        out = torch.full((len(waves), len(self.rows), self.size), math.log(0.1 / (self.size - 1)))
        for t, token in enumerate(self.rows):
            out[:, t, token] = math.log(0.9)
        return out, torch.full((len(waves),), len(self.rows))


@pytest.fixture(params=["kaldi", "k2"])
def engine(request):
    if why_not(request.param) is not None:
        pytest.skip(f"engine {request.param}: {why_not(request.param)}")
    return request.param


def test_words_times_subwords_and_oov(model, engine, noise):
    recogniser = load(model, engine=engine, confidence=False)
    recogniser.log_probs = Speaking("ta", [("படித்தான்", 5), ("வா", 40)], 60)
    (found,) = recogniser.transcribe([noise(2.4)], "ta")
    assert found.error is None and not found.no_speech
    assert found.text == "படித்தான் வா"
    first, second = found.words
    assert [s.marked for s in first.subwords] == ["படி+", "+த்த்+", "+ஆன்"]
    assert first.start == pytest.approx(5 * 0.04, abs=0.011)
    assert first.subwords[1].start == pytest.approx((5 + 8) * 0.04, abs=0.011)
    assert second.start == pytest.approx(40 * 0.04, abs=0.011)
    assert first.start < first.end <= second.start < second.end <= found.duration
    assert first.confidence == pytest.approx(0.9, abs=0.01)
    assert (first.oov, second.oov) == (True, False)
    assert [(s.form, s.category, s.gloss) for s in first.subwords] == [
        ("படி", "verbs", "gloss 0"),
        ("த்த்", "verbs", "gloss 1"),
        ("ஆன்", "verbs", "gloss 2"),
    ]
    assert found.segments[0].final
    assert (found.engine, found.model, found.normaliser) == (engine, "toy", NORMALISER_VERSION)


def test_oov_is_unknown_without_a_vocabulary(model, noise):
    recogniser = load(model)
    recogniser.log_probs = Speaking("kn", [("ಮನೆ", 5)], 30)
    (found,) = recogniser.transcribe([noise(1.2)], "kn")
    assert found.text == "ಮನೆ"
    assert found.words[0].oov is None


def test_without_a_table_the_segmenter_says_what_the_pieces_are(
    model, tmp_path, monkeypatch, noise
):
    class Stub:
        def segment(self, word):
            root, ending = Subword("படி", "படி+", "verbs", "study"), Subword("", "+x", "verbs", "y")
            return Segmentation(word, (root, ending), True, 0.0)

    monkeypatch.setattr("uyir.grammar.segment.load_segmenter", lambda language: Stub())
    shutil.copytree(model, tmp_path / "bare")
    (tmp_path / "bare" / "ta" / "subwords.tsv.xz").unlink()
    recogniser = load(tmp_path / "bare")
    recogniser.log_probs = Speaking("ta", [("படித்தான்", 5)], 40)
    (found,) = recogniser.transcribe([noise(1.6)], "ta")
    assert [(s.category, s.gloss) for s in found.words[0].subwords] == [
        ("verbs", "study"),
        ("verbs", ""),
        ("verbs", ""),
    ]


def test_nbest_texts_stand_in_the_segment(model, engine, noise):
    recogniser = load(
        model, engine=engine, options=SearchOptions(nbest=3, lattice_beam=60, beam=80)
    )
    recogniser.log_probs = Speaking("ta", [("வா", 5)], 20)
    (found,) = recogniser.transcribe([noise(1.0)], "ta")
    texts = [a.text for a in found.segments[0].alternatives]
    scores = [a.score for a in found.segments[0].alternatives]
    assert texts[0] == found.text == "வா"
    assert len(set(texts)) == len(texts) == 3
    assert scores == sorted(scores, reverse=True)


def test_the_untrained_network_runs_the_whole_way(model, engine, noise):
    recogniser = load(model, engine=engine)
    found = recogniser.transcribe([noise(1.0), noise(0.1), noise(3.0, seed=1)], "ta")
    assert [t.source for t in found] == ["array 0", "array 1", "array 2"]
    assert all(t.error is None for t in found)
    assert all(0.0 <= w.confidence <= 1.0 for t in found for w in t.words)


def test_batches_do_not_change_results(model, noise):
    waves = [noise(0.3 + 0.2 * i, seed=i) for i in range(7)]
    alone = load(model, batch_size=1).transcribe(waves, "ta")
    together = load(model, batch_size=4).transcribe(waves, "ta")
    assert [t.text for t in alone] == [t.text for t in together]
    assert [t.words for t in alone] == [t.words for t in together]


def test_a_long_recording_is_cut_at_its_pauses_and_times_are_kept(model, noise):
    speech, pause = noise(6.0), noise(3.0, level=0.0005)
    wave = np.concatenate([pause, speech, pause, speech, pause, speech, pause])
    recogniser = load(model, vad="energy")
    network = recogniser.log_probs = Speaking("ta", [("வா", 10)], 40)
    (found,) = recogniser.transcribe([wave], "ta")
    assert len(found.segments) == 3
    assert max(max(lengths) for lengths in network.asked) < 7.5 * RATE
    for segment, begin in zip(found.segments, (3.0, 12.0, 21.0)):
        assert segment.start == pytest.approx(begin - 0.3 + 10 * 0.04, abs=0.1)


def test_an_hour_of_silence_is_an_empty_flagged_transcript(model):
    recogniser = load(model)
    (found,) = recogniser.transcribe([np.zeros(3600 * RATE, dtype=np.float32)], "ta")
    assert found.no_speech and found.error is None
    assert (found.text, found.duration) == ("", 3600.0)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (np.zeros(0, dtype=np.float32), "no samples"),
        (np.array([0.1, np.nan], dtype=np.float32), "sample 1 is not a finite number"),
        (np.zeros((100, 2), dtype=np.float32), "one channel"),
        (np.zeros(100, dtype=np.int16), "want floats"),
    ],
)
def test_a_bad_array_fails_alone(model, bad, why, noise):
    found = load(model).transcribe([noise(0.5), bad, noise(0.5)], "ta")
    assert [t.error is None for t in found] == [True, False, True]
    assert why in found[1].error and "array 1" in found[1].error


def test_nan_from_the_network_fails_that_recording_alone(model, noise):
    recogniser = load(model, batch_size=2)
    speaking = Speaking("ta", [("வா", 5)], 20)

    def network(waves, language):
        out, lengths = speaking(waves, language)
        out[[len(w) == RATE for w in waves], 3] = math.nan
        return out, lengths

    recogniser.log_probs = network
    found = recogniser.transcribe([noise(0.5), noise(1.0), noise(0.6)], "ta")
    assert [t.text for t in found] == ["வா", "", "வா"]
    assert "NaN" in found[1].error


def test_errors_of_the_model_folder_name_the_file(model, tmp_path, noise):
    for name in ("config.json", "tokens.txt", "model.safetensors"):
        broken = tmp_path / f"no-{name}"
        shutil.copytree(model, broken)
        (broken / name).unlink()
        with pytest.raises(ModelError, match=name):
            load(broken)
    for name in ("words.txt", "HLG.safetensors", "meta.json"):
        broken = tmp_path / f"no-{name}"
        shutil.copytree(model, broken)
        (broken / "ta" / name).unlink()
        with pytest.raises(ModelError, match=name):
            load(broken).transcribe([noise(0.5)], "ta")
    for name in ("subwords.tsv.xz", "vocabulary.txt.xz"):
        broken = tmp_path / f"damaged-{name}"
        shutil.copytree(model, broken)
        (broken / "ta" / name).write_bytes(b"not xz")
        with pytest.raises(ModelError, match=name):
            load(broken).transcribe([noise(0.5)], "ta")
    broken = tmp_path / "damaged"
    shutil.copytree(model, broken)
    whole = (broken / "ta" / "HLG.safetensors").read_bytes()
    (broken / "ta" / "HLG.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GraphError, match=r"HLG\.safetensors"):
        load(broken).transcribe([noise(0.5)], "ta")
    with pytest.raises(ModelError, match="no such model folder"):
        find_model(tmp_path / "nowhere")


def test_languages_that_are_not_there(model, noise):
    recogniser = load(model)
    assert recogniser.languages == ("kn", "ta")
    with pytest.raises(DataError, match="unknown language 'xx'"):
        recogniser.transcribe([noise(0.5)], "xx")


# --------------------------------------------------------------------------------------------------
# The command


@pytest.fixture
def recordings(tmp_path, noise):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    soundfile.write(folder / "a.wav", noise(0.6), RATE)
    soundfile.write(folder / "deep" / "a.flac", noise(0.8, seed=1), RATE)
    soundfile.write(
        folder / "stereo.wav", np.stack([noise(0.5), noise(0.5, seed=2)], axis=1), 48000
    )
    (folder / "notes.md").write_text("not audio")
    return folder


@pytest.fixture
def run(capsys):
    """Runs `uyir transcribe` as the shell would; gives what it wrote to stdout and stderr."""

    def go(*arguments, expect=0):
        capsys.readouterr()
        code = main(["transcribe", *map(str, arguments)])
        out = capsys.readouterr()
        assert code == expect, out.err
        return out

    return go


def test_text_on_stdout_names_the_file_if_there_are_several(run, model, recordings):
    one = run("-l", "ta", "--model", model, recordings / "a.wav").out
    assert "\t" not in one and one.endswith("\n")
    several = run("-l", "ta", "--model", model, recordings).out.splitlines()
    assert [line.split("\t")[0] for line in several] == [
        str(recordings / name) for name in ("a.wav", "stereo.wav", "deep/a.flac")
    ]
    assert several[0].split("\t")[1] == one.strip()


def test_json_lines_have_the_documented_keys(run, model, recordings):
    out = run("-l", "ta", "--model", model, "--json", "--nbest", "2", recordings).out
    objects = [json.loads(line) for line in out.splitlines()]
    assert len(objects) == 3
    documented = (Path(__file__).parents[2] / "decode" / "README.md").read_text(encoding="utf-8")
    for found in objects:
        assert set(found) == {
            "source",
            "id",
            "language",
            "duration",
            "text",
            "no_speech",
            "confidence",
            "final",
            "words",
            "segments",
            "engine",
            "model",
            "normaliser",
            "version",
            "error",
        }
        keys = set(found)
        for word in found["words"]:
            keys |= set(word)
            for piece in word["subwords"]:
                keys |= set(piece)
        for segment in found["segments"]:
            keys |= set(segment)
        assert all(f"`{key}`" in documented for key in keys)


def test_every_format_is_written_and_names_mirror_the_tree(run, model, recordings, tmp_path):
    out = tmp_path / "out"
    run("-l", "ta", "--model", model, "-o", out, "-f", "all", recordings)
    have = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    formats = ("ctm", "json", "srt", "TextGrid", "trn", "tsv", "txt", "vtt")
    want = [f"{n}.{f}" for n in ("a", "deep/a", "stereo") for f in formats]
    assert have == sorted([".uyir.jsonl", *want])
    again = tmp_path / "again"
    run("-l", "ta", "--model", model, "-o", again, "-f", "all", recordings)
    for name in have:
        assert (out / name).read_bytes() == (again / name).read_bytes()


def test_bad_inputs_are_named_and_the_others_done(run, model, recordings, tmp_path, noise):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "empty.wav").write_bytes(b"")
    (bad / "text.wav").write_text("this is no recording, whatever its name says\n" * 20)
    whole = (recordings / "deep" / "a.flac").read_bytes()
    (bad / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(bad / "none.wav", np.zeros(0, dtype=np.float32), RATE)
    nan = noise(0.5)
    nan[100] = np.nan
    soundfile.write(bad / "nan.wav", nan, RATE, subtype="FLOAT")
    (bad / "hollow").mkdir()
    result = run(
        "-l",
        "ta",
        "--model",
        model,
        bad,
        bad / "hollow",
        bad / "missing.wav",
        recordings / "a.wav",
        expect=1,
    )
    for name in (
        "empty.wav",
        "text.wav",
        "cut.flac",
        "none.wav",
        "nan.wav",
        "hollow",
        "missing.wav",
    ):
        lines = [line for line in result.err.splitlines() if name in line]
        assert len(lines) == 1, (name, result.err)
    assert "Traceback" not in result.err
    assert str(recordings / "a.wav") in result.out
    assert "1 of 8 done" in result.err


def test_an_unreadable_folder_is_named(run, model, recordings, monkeypatch):
    real = os.scandir

    def scandir(path="."):
        if Path(os.fspath(path)).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = run("-l", "ta", "--model", model, recordings, expect=1)
    assert "deep: Permission denied" in result.err
    assert len(result.out.splitlines()) == 2


def test_wrong_usage_has_exit_code_2(run, model, recordings):
    for arguments in (
        ["-l", "xx"],
        ["-l", "ta", "-f", "docx"],
        ["-l", "ta", "-f", "all"],
        ["-l", "ta", "--engine", "julius"],
        ["--shard", "1/2"],
        ["--shard", "3/2", "-o", "x"],
        ["--json", "-o", "x"],
        ["--stdout", "-o", "x", "-f", "txt,json"],
    ):
        run(*arguments, "--model", model, recordings / "a.wav", expect=2)
    run("--model", model, expect=2)
    file = recordings / "a.wav"
    assert "is a file" in run("--model", model, file, "-o", file, expect=2).err
    # Names and dashes as other Whisper programs have them.
    assert run("--model", model, file, "--language", "Tamil", "--output-format", "txt").out


def test_a_device_that_is_not_there_is_named(run, model, recordings):
    devices = ["julius"] if torch.cuda.is_available() else ["julius", "cuda"]
    for device in devices:
        out = run("-l", "ta", "--model", model, "--device", device, recordings, expect=1)
        assert f"device '{device}' cannot be used" in out.err
        assert len(out.err.splitlines()) == 1


def test_silence_is_flagged_and_no_failure(run, model, tmp_path):
    soundfile.write(tmp_path / "quiet.wav", np.zeros(2 * RATE, dtype=np.float32), RATE)
    result = run("-l", "ta", "--model", model, "--json", tmp_path / "quiet.wav")
    found = json.loads(result.out)
    assert found["no_speech"] is True and found["text"] == "" and found["error"] is None
    assert "no speech" in result.err


def test_names_with_control_characters_are_escaped(run, model, tmp_path):
    result = run("-l", "ta", "--model", model, tmp_path / "a\x1b[31m.wav", expect=1)
    assert "\x1b" not in result.err and "\\x1b[31m.wav" in result.err


def test_audio_error_class_is_the_readers(tmp_path):
    from uyir.asr.audio import read_audio

    with pytest.raises(AudioError, match=r"x\.wav"):
        read_audio(tmp_path / "x.wav")


def test_what_transcribe_writes_score_reads(run, model, recordings, tmp_path, capsys):
    arguments = ["-l", "ta", "--model", model, recordings]
    (tmp_path / "hyp.tsv").write_text(run(*arguments).out, encoding="utf-8")
    (tmp_path / "hyp.jsonl").write_text(run("--json", *arguments).out, encoding="utf-8")
    (tmp_path / "hyp.trn").write_text(run("-f", "trn", *arguments).out, encoding="utf-8")
    # Two recordings are called a: by id they could not be told apart, and that is said.
    for name in ("hyp.tsv", "hyp.jsonl", "hyp.trn"):
        assert main(["score", str(tmp_path / "hyp.tsv"), str(tmp_path / name), "-l", "ta"]) == 1
        assert "'a' stands twice" in capsys.readouterr().err
    (recordings / "a.wav").rename(recordings / "b.wav")
    (tmp_path / "ref.tsv").write_text(run(*arguments).out, encoding="utf-8")
    (tmp_path / "hyp.jsonl").write_text(run("--json", *arguments).out, encoding="utf-8")
    (tmp_path / "hyp.trn").write_text(run("-f", "trn", *arguments).out, encoding="utf-8")
    run("-f", "json", "-o", tmp_path / "out", *arguments)
    for name in ("hyp.jsonl", "hyp.trn", "out"):
        command = ["score", tmp_path / "ref.tsv", tmp_path / name, "-l", "ta", "--json"]
        assert main(list(map(str, command))) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["wer"] == 0.0 and found["utterances"] == 3 and not found["extra"]


def test_models_of_one_token_table_share_graphs(model, tmp_path, noise):
    shutil.copytree(model, tmp_path / "whole")
    other = tmp_path / "other"
    other.mkdir()
    for name in ("model.safetensors", "config.json", "tokens.txt"):
        shutil.copy(model / name, other / name)
    config = json.loads((other / "config.json").read_text())
    for graphs, said in (("../whole", "want the name"), ("nowhere", "not beside it")):
        (other / "config.json").write_text(json.dumps({**config, "graphs": graphs}))
        with pytest.raises(ModelError, match=said):
            load(other)
    (other / "config.json").write_text(json.dumps({**config, "graphs": "whole"}))
    assert load(other).languages == load(tmp_path / "whole").languages == ("kn", "ta")
    wave = noise(1.0)
    assert load(other).transcribe([wave], "ta")[0].error is None
    # Graphs may be tuned to another model's acoustic scale.
    meta = tmp_path / "whole" / "ta" / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "acoustic_scale": 1.5}))
    own = {**config, "graphs": "whole", "acoustic_scale": {"ta": 1.25}}
    scales = []
    for values in ({**config, "graphs": "whole"}, own):
        (other / "config.json").write_text(json.dumps(values))
        scales.append(load(other).language("ta").engine.options.acoustic_scale)
    assert scales == [1.5, 1.25]
    assert load(other, tuned=False).language("ta").engine.options.acoustic_scale == 1.0
    (other / "config.json").write_text(json.dumps({**own, "acoustic_scale": {"ta": "loud"}}))
    with pytest.raises(ModelError, match=r"acoustic_scale .*want a number above 0"):
        load(other)


@pytest.fixture
def larger_lm(model, tmp_path):
    """A packed model of the toy's Tamil words to which வா is very unlikely at a sentence's beginning."""
    from uyir.decode.lm import Vocabulary, train
    from uyir.decode.lm_store import write_packed
    from uyir.lexicon.symbols import Symbols

    table = model / "ta" / "words.txt"
    known = Vocabulary.of_table(Symbols.read(table))
    rows = [["படி+", "+த்த்+", "+ஆன்"]] * 200 + [["படி+", "+த்த்+", "+ஆன்", "வா"]]
    folder = tmp_path / "larger"
    write_packed(folder / "ta" / "LM.safetensors", train(known.encode(rows), known, 3), table)
    return folder


def test_rescoring_replaces_scores_and_may_change_the_words(model, larger_lm, engine, noise):
    from uyir.decode.rescore import read_rescorer

    options = SearchOptions(nbest=20, lattice_beam=80, beam=100, acoustic_scale=0.2)
    words = {}
    scores = []
    for asked in ("", larger_lm / "ta" / "LM.safetensors", larger_lm):
        recogniser = load(model, engine=engine, options=options, rescore=asked, rescore_scale=2.0)
        recogniser.log_probs = Speaking("ta", [("வா", 5)], 20)
        (found,) = recogniser.transcribe([noise(1.0)], "ta")
        scores.append({a.text: a.score for a in found.segments[0].alternatives})
        words = {text: i for i, text in enumerate(recogniser.language("ta")._words)}
    plain, rescored, from_folder = scores
    assert rescored == from_folder
    rescorer = read_rescorer(
        larger_lm / "ta" / "LM.safetensors", model / "ta" / "words.txt", None, 2.0
    )
    more = rescorer.score([words["வா"]])
    assert more < -5
    assert rescored["வா"] == pytest.approx(plain["வா"] + more, abs=0.01)
    assert next(iter(plain)) == "வா"
    assert next(iter(rescored)) != "வா"


def test_a_model_folder_may_have_a_larger_lm(model, larger_lm, tmp_path, noise):
    own = tmp_path / "own"
    shutil.copytree(model, own)
    shutil.copy(larger_lm / "ta" / "LM.safetensors", own / "ta")
    found = {}
    for name, asked in (("plain", ""), ("own", None)):
        recogniser = load(own, rescore=asked)
        recogniser.log_probs = Speaking("ta", [("வா", 5)], 20)
        (transcript,) = recogniser.transcribe([noise(1.0)], "ta")
        found[name] = transcript.segments[0]
        found[name + " key"] = recogniser.fingerprint()
    assert found["plain"].text == found["own"].text == "வா"
    assert found["plain key"] != found["own key"]


def test_a_larger_lm_of_another_model_is_refused_before_any_work(
    run, model, larger_lm, recordings, tmp_path
):
    lm = larger_lm / "ta" / "LM.safetensors"
    out = run(recordings / "a.wav", "--model", model, "-l", "kn", "--rescore", lm, expect=1)
    assert "was made for another word table" in out.err
    missing = tmp_path / "none.safetensors"
    out = run(recordings / "a.wav", "--model", model, "-l", "ta", "--rescore", missing, expect=1)
    assert f"{missing}: no such language model" in out.err
    both = ("--rescore", lm, "--no-rescore")
    out = run(recordings / "a.wav", "--model", model, "-l", "ta", *both, expect=2)
    assert "either --rescore LM or --no-rescore" in out.err


def test_hotwords_of_another_script_are_refused_before_any_work(run, model, recordings, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("மரம்\nಮನೆ\n", encoding="utf-8")
    arguments = ("-l", "ta", "--model", model, "--hotwords", names)
    out = run(recordings / "a.wav", *arguments, expect=1)
    assert f"{names}:2: 'ಮನೆ' is no word of 'ta'" in out.err
    assert out.out == ""
