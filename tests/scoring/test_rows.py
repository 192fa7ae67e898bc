"""Rows that a filter passes over."""

import numpy as np
import torch

from fastal.base.row_filter import RowFilter
from fastal.base.row_numbers import RowNumbers
from fastal.scoring.rows import Rows


def test_what_a_gpu_found_of_rows_on_the_host_is_left_out():
    """The device "meta" refuses tensors of the host, as a GPU does."""
    x = torch.zeros(3, 2)
    row_filter = RowFilter(np.array([1]), are_read=False)
    rows = Rows(x, RowNumbers(3, 0), "triton", x, row_filter)
    assert rows.without_left_out(torch.empty(3, device="meta")).device.type == "meta"
    assert rows.without_left_out(torch.ones(3), -1).tolist() == [1, -1, 1]
