"""Every way from pairs to a sum of scores, at the ends of what ids, widths and schemes may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect import key_sums
from detect.decoys import decoy_statistics
from detect.key_sums import key_units, whole
from detect.scoring.cells import N_CELLS
from detect.scoring.score_tables import Scorer, ScoreTable
from detect.scoring.scorers import choose_scorer
from detect.scoring.units import score_step, score_units
from watermark.kernels import numba_scan
from watermark.prf_reference import prf_word
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.green_list import GreenList
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament
from watermark.word_sources import Pairs

SCORERS: list[Scorer] = [
    RedGreen(gamma=2.0**-32),
    RedGreen(gamma=1 - 2.0**-32),
    GreenList(2, 3),
    GreenList(1, (1 << 31) - 1),
    Tournament(1),
    Tournament(32),
    Gumbel(),
    DualGumbel(1e-6),
    choose_scorer("minimax", Gumbel(), "direct"),
    choose_scorer("weak", DualGumbel(0.5), "direct"),
]
IDS = st.one_of(
    st.integers(0, 4),
    st.sampled_from([(1 << 31) - 1, 1 << 31, (1 << 32) - 4, (1 << 32) - 1]),
    st.integers(0, (1 << 32) - 1),
)


@given(
    scorer=st.sampled_from(SCORERS),
    rows=st.integers(0, 16).flatmap(
        lambda h: st.lists(st.lists(IDS, min_size=h + 1, max_size=h + 1), min_size=1, max_size=4)
    ),
    key=st.tuples(*[st.integers(0, (1 << 64) - 1)] * 2),
)
@settings(max_examples=80, deadline=None)
def test_all_paths_give_the_reference_s_sum(
    scorer: Scorer, rows: list[list[int]], key: tuple[int, int]
) -> None:
    table = np.array(rows, np.int64)
    h, keys = table.shape[1] - 1, np.array([key, (key[1], key[0])], np.uint64)
    pairs = Pairs(np.ascontiguousarray(table[:, :-1]), np.ascontiguousarray(table[:, -1]))
    words = np.array(
        [
            [prf_word(*key, row[:-1], row[-1], stream) for row in rows]
            for stream in range(scorer.n_streams)
        ],
        np.uint32,
    )
    units = int(score_units(scorer, words).sum())
    scanned = numba_scan.pair_words(
        keys[0], table.reshape(-1), np.arange(1, len(rows) + 1) * (h + 1) - 1, h, scorer.n_streams
    )
    assert scanned.tolist() == words.tolist()
    if isinstance(scorer, ScoreTable):
        looked_up = scorer.units.reshape(-1).astype(np.int32)
        assert int(numba_scan.table_units(scanned, looked_up, N_CELLS).sum()) == units
    for compile_from in (0, 1 << 60):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(key_sums, "_COMPILE_FROM", compile_from)
            assert int(key_units(scorer, keys, whole(pairs))[0, 0]) == units
    centred = decoy_statistics(scorer, keys[:1], *pairs)[0] + len(rows) * scorer.law.mean
    # Scores off a lattice are rounded down to one where they are units.
    assert 0 <= centred + 1e-9 - units * score_step(scorer) < len(rows) * 2**-32 + 1e-8
