from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from uyir.decode.hypothesis import (
    AlignedPaths,
    Run,
    failed,
    from_path,
    from_paths,
    spans_by_pronunciation,
)


def runs(*tokens):
    return [Run(token, 2 * i, 2 * i + 1) for i, token in enumerate(tokens)]


def test_runs_merge_repeats_and_drop_blanks():
    def runs_of(alignment):
        rows = np.zeros((len(alignment), 5), np.float32)
        return from_path(alignment, [], rows, lm_score=0.0, acoustic_scale=1.0, final=True).runs

    found = runs_of([0, 3, 3, 0, 3, 4, 4])
    assert found == (Run(3, 1, 3), Run(3, 4, 5), Run(4, 5, 7)) and len(found) == 3
    assert found[1] == Run(3, 4, 5) and found[1:] == found[1:3] and found != (Run(3, 1, 3),)
    assert pickle.loads(pickle.dumps(found)) == found and hash(found) == hash(tuple(found))
    assert runs_of([]) == ()
    assert runs_of([0, 0]) == ()


def test_paths_made_together_are_those_made_alone():
    rng = np.random.default_rng(5)
    alone, parts = [], []
    for _ in range(60):
        frames = int(rng.integers(0, 12))
        rows = rng.normal(-2.0, 1.0, (frames, 4)).astype(np.float32)
        tokens = (
            np.sort(rng.integers(0, 4, frames))
            if rng.random() < 0.5
            else rng.integers(0, 4, frames)
        )
        count = int(rng.integers(0, 5))
        at = np.sort(rng.integers(0, frames + 1, count))
        labels = rng.integers(1, 9, count)
        alone.append(
            from_path(
                tokens.tolist(),
                list(zip(at.tolist(), labels.tolist())),
                rows,
                lm_score=float(frames),
                acoustic_scale=0.5,
                final=bool(frames % 2),
            )
        )
        parts.append((frames, tokens, rows[np.arange(frames), tokens], count, at, labels))
    frames, tokens, along, counts, at, labels = zip(*parts)
    together = AlignedPaths(
        np.array(frames), np.concatenate(tokens), np.concatenate(along), np.array(counts),
        np.concatenate(at), np.concatenate(labels),
        np.array(frames, dtype=float), np.array([f % 2 == 1 for f in frames]),
    )  # fmt: skip
    assert from_paths(together, 0.5) == alone


def test_words_are_laid_over_the_runs_they_are_spoken_as():
    assert spans_by_pronunciation(runs(5, 6, 7), [[(5, 6)], [(7,)]]) == [(0, 2), (2, 3)]


def test_a_variant_is_chosen_so_that_all_words_fit():
    words = [[(5,), (5, 6)], [(7,), (6, 7)]]
    assert spans_by_pronunciation(runs(5, 6, 7), words) in ([(0, 1), (1, 3)], [(0, 2), (2, 3)])
    assert spans_by_pronunciation(runs(5, 6, 6, 7), words) == [(0, 2), (2, 4)]


def test_noise_belongs_to_no_word():
    assert spans_by_pronunciation(runs(1, 5, 1, 1, 6, 1), [[(5,)], [(6,)]]) == [(1, 2), (4, 5)]


def test_equal_tokens_merged_at_a_seam_stay_with_the_left_word():
    assert spans_by_pronunciation(runs(5, 6, 7), [[(5, 6)], [(6, 7)]]) == [(0, 2), (2, 3)]


def test_runs_that_the_words_do_not_spell_are_refused():
    assert spans_by_pronunciation(runs(5, 6), [[(5,)]]) is None
    assert spans_by_pronunciation(runs(5), [[(5,)], [(6,)]]) is None


def test_score_parts_and_acoustic_confidence():
    log_probs = np.log(np.array([[0.5, 0.5, 0.0001], [0.2, 0.8, 0.0001], [0.9, 0.05, 0.05]]))
    hyp = from_path([1, 1, 0], [(0, 42)], log_probs, lm_score=-2.0, acoustic_scale=0.5, final=True)
    assert hyp.am_score == pytest.approx(math.log(0.5 * 0.8 * 0.9))
    assert hyp.score == pytest.approx(0.5 * math.log(0.36) - 2.0)
    assert hyp.confidences == pytest.approx((0.8,))  # the peak of the token's run
    assert (hyp.times, hyp.ends) == ((0,), (2,))


def test_labels_that_come_out_together_share_their_token():
    log_probs = np.zeros((3, 6), dtype=np.float32)
    hyp = from_path(
        [0, 5, 0], [(1, 8), (1, 9)], log_probs, lm_score=0.0, acoustic_scale=1.0, final=True
    )
    assert hyp.times == (1, 1) and hyp.ends == (2, 2)
    assert all(0.0 <= c <= 1.0 for c in hyp.confidences)


def test_failed_is_empty_unfinished_and_says_why():
    hyp = failed("NaN")
    assert (hyp.subwords, hyp.final, hyp.score, hyp.error) == ((), False, -math.inf, "NaN")
