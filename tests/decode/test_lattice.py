from __future__ import annotations

import math

import numpy as np
import pytest

from uyir.decode.lattice import NO_TOKEN, Arc, Lattice
from uyir.errors import EngineError


@pytest.mark.parametrize("seed", range(20))
def test_nbest_is_that_of_all_paths(toys, seed):
    lattice = toys.lattice(seed)
    best = {}
    for path, score in toys.lattice_paths(lattice):
        labels = tuple(label for arc in path for label in arc.labels)
        best[labels] = max(best.get(labels, -math.inf), score)
    want = sorted(best.values(), reverse=True)[:5]
    found = lattice.nbest(5)
    assert [path.score for path in found] == pytest.approx(want)
    for path in found:
        labels = tuple(label for _, label in path.events)
        assert path.score == pytest.approx(best[labels])
        am = sum(lattice.log_probs[t, token] for t, token in enumerate(path.alignment))
        assert path.score == pytest.approx(0.7 * am + path.lm_score)


@pytest.mark.parametrize("seed", range(20))
def test_posteriors_are_those_of_all_paths(toys, seed):
    lattice = toys.lattice(seed)
    paths = list(toys.lattice_paths(lattice))
    total = sum(math.exp(score) for _, score in paths) or 1.0  # no path at all: all are zero
    for arc, posterior in zip(lattice.arcs, lattice.posteriors()):
        want = sum(math.exp(score) for path, score in paths if any(a is arc for a in path)) / total
        assert posterior == pytest.approx(want, abs=1e-9)


def test_confidence_gathers_other_alignments_of_the_same_label():
    # Label 1 may come out on either frame; label 2 is a rival of it on frame 0.
    log_probs = np.log(np.full((2, 2), 0.5))
    arcs = [
        Arc(0, 1, 0, (1,), 0.0),
        Arc(0, 2, 0, (), 0.0),
        Arc(0, 3, 0, (2,), 0.0),
        Arc(1, 4, 1, (), 0.0),
        Arc(2, 4, 1, (1,), 0.0),
        Arc(3, 4, 1, (), 0.0),
    ]
    lattice = Lattice(arcs, 0, {4: 0.0}, log_probs)
    assert lattice.confidences([(0, 1)]) == pytest.approx([2 / 3])
    assert lattice.confidences([(0, 2)]) == pytest.approx([1 / 3])


def test_a_cycle_is_refused():
    arcs = [Arc(0, 1, NO_TOKEN, (), 0.0), Arc(1, 0, NO_TOKEN, (), 0.0)]
    with pytest.raises(EngineError, match="cycle"):
        Lattice(arcs, 0, {1: 0.0}, np.zeros((0, 1)))


def test_no_path_to_the_end_gives_nothing():
    lattice = Lattice([Arc(0, 1, 0, (1,), 0.0)], 0, {5: 0.0}, np.zeros((1, 1)))
    assert lattice.nbest(3) == []
    assert lattice.posteriors().tolist() == [0.0]
