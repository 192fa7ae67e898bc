"""The example of the loader prints the picks that the whole matrix of logits gives."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fastal
from tests.support.examples import example

pytest.importorskip("sklearn")


@pytest.mark.full
def test_the_ids_are_those_of_the_most_uncertain_digits_without_a_label(monkeypatch, capsys):
    networks = []

    class Recorded(torch.nn.Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            networks.append(self)

    dataloader = example("dataloader")
    monkeypatch.setattr(torch.nn, "Sequential", Recorded)
    dataloader.main()
    images = torch.from_numpy(dataloader.load_digits().data).float() / 16
    with torch.inference_mode():
        logits = networks[0](images).double().numpy()
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    second, largest = np.sort(probs)[:, -2:].T
    uncertain = [row for row in np.argsort(largest - second) if row >= 100][:10]
    _, _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [str(row) for row in uncertain]
    assert [line.split()[3] for line in lines] == [f"digit-{row:04}" for row in uncertain]


def test_a_loader_that_shuffles_needs_row_numbers():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 10)))
    wanted = fastal.select(logits, 10).rows.tolist()
    uncounted, numbered = fastal.Selector(k=10), fastal.Selector(k=10)
    generator = torch.Generator().manual_seed(0)
    dataset = TensorDataset(logits, torch.arange(500))
    for batch, rows in DataLoader(dataset, batch_size=64, shuffle=True, generator=generator):
        uncounted.update(batch)
        ascending, order = rows.sort()
        numbered.update(batch[order], ascending.numpy())
    assert uncounted.result().rows.tolist() != wanted
    assert numbered.result().rows.tolist() == wanted
