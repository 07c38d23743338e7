"""The clean stop of a graph's build before memory is gone."""

from __future__ import annotations

import numpy as np
import pytest

from uyir.decode.graph_watch import Limits, Watch, held_gb, memory_gb
from uyir.errors import GraphError


def test_memory_given_back_does_not_count_against_the_limit():
    np.ones(60_000_000).sum()  # half a GB, at once given back
    assert held_gb() <= memory_gb()
    watch = Watch(Limits(max_memory=held_gb() + 0.2), lambda text: None)
    watch.check("LM", 1, 1)
    with pytest.raises(GraphError, match="LM needs"):
        watch.check("LM", 1, 1, ahead=0.4)
