"""What the strategies are worth on photographs of clothes, with a small convolutional network.

The pool is the 60,000 training images of Fashion-MNIST, of ten classes. A network is trained on 100
of them. In each of ten rounds, a strategy picks 100 more. 8,000 of the test images measure the
accuracy. The other 2,000 are validation data: model outliers and transfer learning compare the pool
with them.

The images are in the Debian package dataset-fashion-mnist: apt-get install dataset-fashion-mnist.
Without them, the digits of scikit-learn stand in, in batches of 20. Needs scikit-learn and
matplotlib: pip install 'fastal[demo]'.

All strategies and five seeds take hours on two cores. For a first look:

    python examples/fashion_mnist.py --strategies "random;margin;badge" --seeds 0,1 --rounds 4

Runs do not depend on each other. So several processes, machines or GPUs can share them: give each
other seeds or other strategies, and --curves of its own. `fastal.Simulation.load` joins the files.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import fastal
from fastal import combine, diversity

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

    @torch.inference_mode()
    def of_pool(self, x, *modules):
        """What the modules make of all rows, on the CPU."""
        parts = []
        for part in torch.from_numpy(x).split(4096):
            part = part.to(DEVICE)
            for module in modules:
                part = module(part)
            parts.append(part.float().cpu())
        return torch.cat(parts).numpy()


def fit(x, y, seed):
    """A network, trained on the labelled images for a fixed number of steps."""
    torch.manual_seed(seed)
    network = Network(x.shape[-1]).to(DEVICE)
    images, labels = torch.from_numpy(x).to(DEVICE), torch.from_numpy(y).to(DEVICE)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    drawn = torch.randint(len(x), (STEPS, STEP_ROWS)).to(DEVICE)
    for rows in drawn:
        optimizer.zero_grad()
        functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimizer.step()
    return network.eval()


def predict(network, x):
    """Logits [n, 10]."""
    return network.of_pool(x, network)


def hidden(network, x):
    """Hidden states [n, 64], which serve as embeddings."""
    return network.of_pool(x, network.features)


def draws(network, x):
    """Logits [n, draws, 10]: each draw drops other hidden units."""
    states = torch.from_numpy(hidden(network, x)).to(DEVICE)
    network.dropout.train()
    with torch.inference_mode():
        found = [network.classes(network.dropout(states)) for _ in range(N_DRAWS)]
    network.eval()
    return torch.stack(found, 1).cpu()


def strategies(validation_x, validation_y):
    """All strategies by name. They get a `fastal.Round`."""

    def by_score(name):
        return lambda g: fastal.select(g.predictions, g.k, name, exclude=g.labelled)

    def with_embeddings(strategy, **options):
        """A strategy that takes logits and embeddings."""
        return lambda g: strategy(
            g.predictions, hidden(g.model, g.x), g.k, exclude=g.labelled, **options
        )

    def of_embeddings(strategy, **options):
        """A strategy that compares the embeddings of the pool with those of the labelled rows."""

        def pick(g):
            x = hidden(g.model, g.x)
            return strategy(x, x[g.labelled], g.k, exclude=g.labelled, **options)

        return pick

    def with_labelled(strategy):
        """A strategy of logits, embeddings and those of the labelled rows."""

        def pick(g):
            x = hidden(g.model, g.x)
            return strategy(g.predictions, x, g.k, labelled=x[g.labelled], exclude=g.labelled)

        return pick

    def bald(g):
        x = draws(g.model, g.x)
        return fastal.select(x, g.k, "bald", draws_axis=1, exclude=g.labelled)

    def noisy_margin(g):
        return fastal.select(
            g.predictions, g.k, "margin", noise="power", seed=g.seed, exclude=g.labelled
        )

    def core_set(x, labelled, k, exclude):
        return diversity.k_center(x, k, labelled=labelled, exclude=exclude)

    def typiclust(x, labelled, k, exclude):
        return diversity.typiclust(x, k, labelled=labelled, exclude=exclude)

    def cluster_outliers(g):
        x = hidden(g.model, g.x)
        clusters = diversity.CosineClusters(20, seed=g.seed).fit(x)
        return diversity.cluster_outliers(x, clusters.centroids, g.k, exclude=g.labelled)

    def cluster_samples(g):
        x = hidden(g.model, g.x)
        clusters = diversity.CosineClusters(g.k // 5, seed=g.seed).fit(x)
        roles = clusters.sample(x, n_random=3, exclude=g.labelled)
        picks = np.concatenate([picks.rows for picks in roles])[: g.k]
        others = fastal.select(x, g.k, "random", seed=g.seed, exclude=[g.labelled, picks])
        return np.concatenate([picks, others.rows])[: g.k]  # small clusters have fewer members

    def model_outliers(g):
        known = hidden(g.model, validation_x)
        return diversity.model_outliers(hidden(g.model, g.x), known, g.k, exclude=g.labelled)

    def uncertain_model_outliers(g):
        known = hidden(g.model, validation_x)
        return combine.uncertain_model_outliers(
            g.predictions, hidden(g.model, g.x), known, g.k, exclude=g.labelled
        )

    def margin_and_outliers(g):
        x = hidden(g.model, g.x)
        centroids = diversity.CosineClusters(20, seed=g.seed).fit(x).centroids
        parts = [(g.predictions, "margin", 1), (x, diversity.CentroidDistance(centroids), 1)]
        return combine.weighted(parts, g.k, exclude=g.labelled)

    def transfer(strategy):
        def pick(g):
            is_right = predict(g.model, validation_x).argmax(1) == validation_y
            states = hidden(g.model, validation_x)
            return strategy(hidden(g.model, g.x), states, is_right, g.k, exclude=g.labelled)

        return pick

    return {
        "random": "random",
        "least_confidence": by_score("least_confidence"),
        "margin": by_score("margin"),
        "ratio": by_score("ratio"),
        "entropy": by_score("entropy"),
        "margin, power noise": noisy_margin,
        "bald": bald,
        "model outliers": model_outliers,
        "cluster outliers": cluster_outliers,
        "cluster samples": cluster_samples,
        "representative": of_embeddings(diversity.representative),
        "adaptive representative": of_embeddings(diversity.adaptive_representative),
        "core-set": of_embeddings(core_set),
        "typiclust": of_embeddings(typiclust),
        "badge": with_embeddings(diversity.badge),
        "clustered uncertainty": with_embeddings(combine.clustered_uncertainty),
        "uncertain model outliers": uncertain_model_outliers,
        "representative clusters": of_embeddings(combine.representative_clusters),
        "most uncertain cluster": with_embeddings(combine.most_uncertain_cluster),
        "margin + cluster outliers": margin_and_outliers,
        "diverse": with_labelled(combine.diverse),
        "ranked batch": with_labelled(combine.ranked_batch),
        "transfer uncertainty": transfer(combine.transfer_uncertainty),
        "transfer representative": of_embeddings(combine.transfer_representative),
        "atlas": transfer(combine.atlas),
    }


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
    validation, test = ([part[rows] for part in others] for rows in (slice(n), slice(n, None)))
    return x, y, validation, test, batch


def main(arguments=None):
    """Runs the simulation, prints the table, and writes the curves and their picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", help="names with semicolons between them; default: all")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="numbers with commas between them")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--curves", default="fashion-mnist.csv")
    parser.add_argument("--picture", default="fashion-mnist.png")
    options = parser.parse_args(arguments)
    x, y, validation, test, batch = data()
    chosen = strategies(*validation)
    if options.strategies:
        chosen = {name: chosen[name] for name in options.strategies.split(";")}
    found = fastal.simulate(
        fit, predict, x, y, chosen, rounds=options.rounds, batch=batch,
        seeds=[int(seed) for seed in options.seeds.split(",")], test=tuple(test),
        checkpoint=f"{options.curves}.runs", resume=True, progress=True,
    )  # fmt: skip
    print(found)
    found.save(options.curves)
    found.plot(options.picture)


if __name__ == "__main__":
    main()
