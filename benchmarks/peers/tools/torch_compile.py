"""torch.compile of careful eager code. The time to compile is not counted."""

import functools

import torch

from benchmarks.providers import topk_eagerly


@functools.cache
def compiled(function):
    return torch.compile(function)


def from_logits(data, function):
    logits = torch.from_numpy(data["logits"])
    torch._dynamo.mark_dynamic(logits, 0)  # compiled once for all numbers of rows
    return lambda: compiled(function)(logits)


def scores(data):
    names = "least_confidence", "margin", "ratio", "entropy"
    work = from_logits(data, topk_eagerly)
    return lambda: dict(zip(names, work(), strict=True))


def three(data):
    work, k = from_logits(data, topk_eagerly), int(data["k"])

    def ranked():
        confidence, margin, _, entropy = work()
        return {"rows": torch.stack([one.topk(k).indices for one in (confidence, margin, entropy)])}

    return ranked


def top(data):
    work, k = from_logits(data, margin), int(data["k"])
    return lambda: {"rows": work().topk(k).indices}


def margin(logits):
    best = torch.softmax(logits, 1).topk(2, 1).values
    return 1 - (best[:, 0] - best[:, 1])
