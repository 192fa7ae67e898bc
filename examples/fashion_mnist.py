"""What the strategies are worth on photographs of clothes, with a small convolutional network.

The pool is the 60,000 training images of Fashion-MNIST, of ten classes. A network is trained on 100
of them. In each of ten rounds, a strategy picks 100 more. 8,000 of the test images measure the
accuracy. The other 2,000 are validation data: model outliers and transfer learning compare the pool
with them. The strategies are those of `examples/every_strategy.py`.

The images are in the Debian package dataset-fashion-mnist: apt-get install dataset-fashion-mnist.
Without them, the script uses the digits of scikit-learn, in batches of 20. It needs scikit-learn
and matplotlib: pip install 'fastal[demo]'.

All strategies and five seeds take hours on two cores. For a first look:

    python examples/fashion_mnist.py --strategies "random;margin;badge" --seeds 0,1 --rounds 4

Runs do not depend on each other, so several processes, machines or GPUs can share them. Give each
process different seeds or different strategies, and its own --curves file.
`fastal.Simulation.load` joins the files.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from every_strategy import every_strategy
from torch.nn import functional

import fastal

IMAGES = Path("/usr/share/datasets/fashion-mnist")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEPS, STEP_ROWS = 400, 64
N_DRAWS = 10


class Network(torch.nn.Module):
    """Two convolutions, 64 hidden units, ten classes."""

    def __init__(self, size):
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
            torch.nn.Flatten(), torch.nn.Linear(32 * (size // 4) ** 2, 64), torch.nn.ReLU(),
        )  # fmt: skip
        self.dropout = torch.nn.Dropout(0.3)
        self.classes = torch.nn.Linear(64, 10)

    def forward(self, x):
        """Logits [n, 10]."""
        return self.classes(self.dropout(self.features(x)))

    def hidden(self, x):
        """Hidden states [n, 64] of images in NumPy."""
        return in_parts(self.features, x)

    def draws(self, x):
        """Logits [n, draws, 10] of images in NumPy. Each draw drops other hidden units."""
        self.dropout.train()
        found = in_parts(lambda part: torch.stack([self(part) for _ in range(N_DRAWS)], 1), x)
        self.dropout.eval()
        return found


def fit(x, y, seed):
    """A network, trained on the labelled images for a fixed number of steps."""
    torch.manual_seed(seed)
    network = Network(x.shape[-1]).to(DEVICE)
    images, labels = torch.from_numpy(x).to(DEVICE), torch.from_numpy(y).to(DEVICE)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for rows in torch.randint(len(x), (STEPS, STEP_ROWS)).to(DEVICE):
        optimizer.zero_grad()
        functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimizer.step()
    return network.eval()


def predict(network, x):
    """Logits [n, 10]."""
    return in_parts(network, x)


@torch.inference_mode()
def in_parts(function, x):
    """What a function makes of all images, in NumPy. Few are on the device at once."""
    parts = [function(part.to(DEVICE)).cpu() for part in torch.from_numpy(x).split(4096)]
    return torch.cat(parts).numpy()


def fashion_mnist(split):
    """Images [n, 1, 28, 28] from 0 to 1, and labels [n], of "train" or "t10k"."""
    with gzip.open(IMAGES / f"{split}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(IMAGES / f"{split}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images.astype(np.float32) / 255, labels.astype(np.int64)


def digits():
    """The digits of scikit-learn: 1,000 images for the pool, and the others."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 1, 8, 8).astype(np.float32) / 16
    return (x[:1000], y[:1000]), (x[1000:], y[1000:])


def data():
    """Pool, validation data and test data, and the number of rows to label in a round."""
    if IMAGES.is_dir():
        (x, y), others, batch = fashion_mnist("train"), fashion_mnist("t10k"), 100
    else:
        print("dataset-fashion-mnist is not installed: these are curves of digits")
        ((x, y), others), batch = digits(), 20
    n = len(others[0]) // 5
    validation, test = (tuple(part[rows] for part in others) for rows in (slice(n), slice(n, None)))
    return x, y, validation, test, batch


def main(arguments=None):
    """Runs the simulation, prints the table, and writes the curves and their picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", help="names with semicolons between them; default: all")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="numbers with commas between them")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--curves", default="fashion-mnist.csv")
    parser.add_argument("--picture", default="fashion-mnist.png")
    parser.add_argument("--resume", action="store_true", help="run only what a killed run lacks")
    options = parser.parse_args(arguments)
    x, y, validation, test, batch = data()
    chosen = every_strategy(*validation)
    if options.strategies:
        names = options.strategies.split(";")
        for name in names:
            if name not in chosen:
                parser.error(f"--strategies: wanted some of {'; '.join(chosen)}, got {name!r}")
        chosen = {name: chosen[name] for name in names}
    found = fastal.simulate(
        fit, predict, x, y, chosen, rounds=options.rounds, batch=batch,
        seeds=[int(seed) for seed in options.seeds.split(",")], test=test,
        checkpoint=f"{options.curves}.runs", resume=options.resume, progress=True,
    )  # fmt: skip
    print(found)
    found.save(options.curves)
    found.plot(options.picture)


if __name__ == "__main__":
    main()
