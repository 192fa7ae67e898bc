"""The methods as loops over items with torch, transcribed from the book's definitions.

The book (Munro, Human-in-the-Loop Machine Learning) defines each score for one item. This is how
its readers compute a pool: item by item, then a sort in Python. The code is our own.
"""

import math

import torch

from benchmarks.peers.inputs import VALIDATION


def least_confidence(p):
    n = len(p)
    return (n * (1 - p.max()) / (n - 1)).item()


def margin(p):
    best = p.sort(descending=True).values
    return (1 - (best[0] - best[1])).item()


def ratio(p):
    best = p.sort(descending=True).values
    return (best[1] / best[0]).item()


def entropy(p):
    return (-(p * p.log2()).sum() / math.log2(len(p))).item()


def scores(data):
    logits = torch.from_numpy(data["logits"])
    definitions = {
        "least_confidence": least_confidence, "margin": margin, "ratio": ratio, "entropy": entropy
    }  # fmt: skip

    def work():
        found = {name: [] for name in definitions}
        for x in logits:
            p = x.softmax(0)
            for name, define in definitions.items():
                found[name].append(define(p))
        return found

    return work


def ranked(logits, define, k):
    found = [(define(x.softmax(-1)), row) for row, x in enumerate(logits)]
    found.sort(reverse=True)
    return [row for _, row in found[:k]]


def top(data):
    logits = torch.from_numpy(data["logits"])
    return lambda: {"rows": ranked(logits, margin, int(data["k"]))}


def three(data):
    logits, k = torch.from_numpy(data["logits"]), int(data["k"])
    definitions = least_confidence, margin, entropy
    return lambda: {"rows": [ranked(logits, define, k) for define in definitions]}


def bald(data):
    logits = torch.from_numpy(data["logits"])

    def define(p):
        mean = p.mean(0)
        of_draws = [-(draw * draw.log()).sum().item() for draw in p]
        return -(mean * mean.log()).sum().item() - sum(of_draws) / len(of_draws)

    return lambda: {"rows": ranked(logits, define, int(data["k"]))}


def quotas(data):
    logits, groups = torch.from_numpy(data["logits"]), data["groups"].tolist()

    def work():
        found = [(margin(x.softmax(0)), row) for row, x in enumerate(logits)]
        found.sort(reverse=True)
        counts: dict[int, int] = {}
        rows = []
        for _, row in found:
            group = groups[row]
            if counts.get(group, 0) < int(data["k"]):
                counts[group] = counts.get(group, 0) + 1
                rows.append(row)
        return {"rows": rows}

    return work


def rank(value, ordered):
    """A search from the lowest validation value on."""
    index = next((i for i, other in enumerate(ordered) if value < other), VALIDATION)
    if index in (0, VALIDATION):
        return index / VALIDATION
    low, high = ordered[index - 1], ordered[index]
    return (index - 1 + (value - low) / (high - low)) / VALIDATION


def outliers(data):
    x, validation = data["x"], data["validation"]

    def work():
        ordered = [sorted(column) for column in validation.T.tolist()]
        found = []
        for row, activations in enumerate(x.tolist()):
            ranks = [rank(value, of) for value, of in zip(activations, ordered, strict=True)]
            found.append((1 - sum(ranks) / len(ranks), row))
        found.sort(reverse=True)
        return {"rows": [row for _, row in found[: int(data["k"])]]}

    return work
