"""Reads the head of a model from a file."""

from pathlib import Path

from fastal.base.errors import prefixing_errors
from fastal.diversity.centroids import rows_of
from fastal.scoring.head import Head
from fastal.sources import open_pool
from fastal.sources.array_file import ArrayFile
from fastal.sources.files import Files


def read_head(path: Path, by: str, temperature: float) -> Head:
    """The head whose weight is the only matrix of a file.

    The bias is the array whose name has "bias" where the name of the weight has "weight", such as
    lm_head.weight and lm_head.bias. If there is no such array, there is no bias.

    Args:
        path: a file of arrays: .safetensors, .npz, .pt, or .npy of the weight alone.
        by: the score.
        temperature: what logits are divided by.

    Raises:
        ValueError, TypeError, OSError: the file cannot be read, or holds no head.
    """
    with prefixing_errors("head"):
        opened = open_pool(path)
        assert isinstance(opened, Files)
        bias, (file, *_) = None, opened.files
        for name in opened.names:
            of_bias = name.replace("weight", "bias")
            if of_bias != name and isinstance(file, ArrayFile) and file.holds(of_bias):
                bias = rows_of(open_pool(path, column=of_bias), "bias")
        weight = rows_of(opened, "weight")
        return Head(weight, bias, by=by, temperature=temperature)
