"""The clean stop of a graph's build before memory is gone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from uyir.decode.graph_watch import Limits, Watch, held_gb, memory_gb
from uyir.errors import GraphError


def test_the_peak_is_not_what_a_parent_had() -> None:
    """A large process starts a small one, which says how large it has been."""
    code = "from uyir.decode.graph_watch import memory_gb; print(memory_gb())"
    block = bytearray(600 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert memory_gb() > 0.55
    run = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    assert 0.0 < float(run.stdout) < 0.4
    del block


def test_memory_given_back_does_not_count_against_the_limit():
    np.ones(60_000_000).sum()  # half a GB, at once given back
    assert held_gb() <= memory_gb()
    watch = Watch(Limits(max_memory=held_gb() + 0.2), lambda text: None)
    watch.check("LM", 1, 1)
    with pytest.raises(GraphError, match="LM needs"):
        watch.check("LM", 1, 1, ahead=0.4)
