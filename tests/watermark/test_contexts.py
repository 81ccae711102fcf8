"""Windows and groups, against naive twins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from watermark.contexts import first_occurrences, group_rows, windows

texts = st.lists(st.integers(0, 3), max_size=20)


@given(text=texts, h=st.integers(0, 5))
def test_windows_are_the_ids_before_each_token(text: list[int], h: int) -> None:
    rows = windows(np.array(text, np.int64), h)
    assert rows.shape == (max(len(text) - h, 0), h)
    assert rows.tolist() == [text[t - h : t] for t in range(h, len(text))]


@given(rows=st.lists(st.tuples(*[st.integers(0, 2)] * 3), max_size=30))
def test_groups_are_numbered_by_first_occurrence(rows: list[tuple[int, ...]]) -> None:
    first, group = group_rows(np.array(rows, np.int64).reshape(len(rows), 3))
    distinct = list(dict.fromkeys(rows))
    assert [rows[i] for i in first] == distinct
    assert first.tolist() == [rows.index(row) for row in distinct]
    assert group.tolist() == [distinct.index(row) for row in rows]


@given(rows=st.lists(st.tuples(*[st.integers(0, 2)] * 2), max_size=30))
def test_first_occurrences_are_marked_once(rows: list[tuple[int, ...]]) -> None:
    mask = first_occurrences(np.array(rows, np.int64).reshape(len(rows), 2))
    assert mask.tolist() == [row not in rows[:i] for i, row in enumerate(rows)]


def test_empty_rows_are_all_equal() -> None:
    assert first_occurrences(np.empty((3, 0), np.int64)).tolist() == [True, False, False]
    assert group_rows(np.empty((0, 2), np.int64))[0].tolist() == []
