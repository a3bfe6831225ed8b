"""Compressed weights are laid out as the file means them."""

from __future__ import annotations

import numpy as np

from services.standalone.models.sparse import SparseLayout, SparseLevel, densify


def test_stored_rows_land_in_their_columns_and_the_rest_is_zero():
    rows = SparseLevel(size=3)
    columns = SparseLevel(size=4, segments=np.array([0, 2, 2, 3]), indices=np.array([0, 3, 1]))
    layout = SparseLayout(shape=(3, 4), order=(0, 1), block_axes=(), levels=(rows, columns))
    full = densify(np.array([5.0, 6.0, 7.0], np.float16), layout)
    assert full.dtype == np.float16
    assert full.tolist() == [[5, 0, 0, 6], [0, 0, 0, 0], [0, 7, 0, 0]]


def test_a_block_lands_whole_where_its_first_element_belongs():
    # Blocks of two along the columns: the level of columns counts blocks, a dense level follows for their inside.
    levels = (
        SparseLevel(size=2),
        SparseLevel(size=2, segments=np.array([0, 1, 2]), indices=np.array([1, 0])),
        SparseLevel(size=2),
    )
    layout = SparseLayout(shape=(2, 4), order=(0, 1, 2), block_axes=(1,), levels=levels)
    full = densify(np.array([1.0, 2.0, 3.0, 4.0], np.float32), layout)
    assert full.tolist() == [[0, 0, 1, 2], [3, 4, 0, 0]]
