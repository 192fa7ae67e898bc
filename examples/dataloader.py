"""Picks from a torch DataLoader of your own, batch by batch, with the ids of the items.

A small network is trained on the first 100 digits. A DataLoader reads all 1,797 digits. A
`fastal.Selector` reads the logits of each batch and keeps only the 10 best rows. The first 100
digits are excluded, because they have labels. Needs scikit-learn: pip install 'fastal[demo]'.

The loader must not shuffle. The selector counts rows: the first row of the first batch is row 0.
With shuffle=True, row 5 would not be item 5 of the data set. Wrong rows would be excluded, without
an error. If a loader must shuffle, pass the row numbers of each batch to `update`, ascending.

Usage: python examples/dataloader.py
"""

from dataclasses import replace

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import fastal


def main():
    """Trains, reads the pool once, and prints the picks."""
    images, digits = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    images = images.float() / 16
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(model(images[:100]), digits[:100]).backward()
        optimizer.step()

    dataset = [(image, f"digit-{index:04}") for index, image in enumerate(images)]
    loader = DataLoader(dataset, batch_size=256, shuffle=False)
    selector, ids = fastal.Selector(k=10, exclude=np.arange(100)), []
    with torch.inference_mode():
        for batch, names in loader:
            selector.update(model(batch))
            ids += names
    picks = selector.result()
    print(replace(picks, ids=np.array(ids)[picks.rows]))


if __name__ == "__main__":
    main()
