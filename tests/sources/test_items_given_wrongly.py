"""What `fastal.items` says of padded items that are given as if they were not."""

import numpy as np
import pytest

import fastal

PADDED, LENGTHS = np.zeros((4, 9, 5)), np.array([3, 6, 2, 9])


def test_lengths_of_padded_items_are_answered_by_the_mask_that_they_mean():
    with pytest.raises(ValueError, match=r"^lengths: .* give mask=np\.arange") as error:
        fastal.items(PADDED, lengths=LENGTHS)
    line = str(error.value).rpartition("give mask=")[2]
    mask = eval(line, {"np": np, "lengths": LENGTHS, "T": PADDED.shape[1]})
    assert fastal.items(PADDED, mask=mask).mask.sum(1).tolist() == LENGTHS.tolist()


def test_an_attention_mask_of_integers_is_answered_by_a_comparison():
    mask = (np.arange(9) < LENGTHS[:, None]).astype(int)
    with pytest.raises(TypeError, match=r"got int64; of an attention mask .* mask == 1$"):
        fastal.items(PADDED, mask=mask)
    assert len(fastal.items(PADDED, mask=mask == 1)) == 4
