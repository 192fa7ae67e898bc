"""torch as it is most often written: softmax over the whole matrix, sort, topk."""

import math

import torch

from benchmarks.peers.inputs import LABELLED, SIMILAR


def scores(data):
    logits = torch.from_numpy(data["logits"])
    names = "least_confidence", "margin", "ratio", "entropy"
    return lambda: dict(zip(names, all_scores(logits), strict=True))


def all_scores(logits):
    p = torch.softmax(logits, 1)
    n, ranked = p.shape[1], p.sort(1, descending=True).values
    p1, p2 = ranked[:, 0], ranked[:, 1]
    entropy = -torch.special.xlogy(p, p).sum(1) / math.log(n)
    return n * (1 - p1) / (n - 1), 1 - (p1 - p2), p2 / p1, entropy


def three(data):
    logits, k = torch.from_numpy(data["logits"]), int(data["k"])

    def work():
        confidence, margin, _, entropy = all_scores(logits)
        return {"rows": torch.stack([one.topk(k).indices for one in (confidence, margin, entropy)])}

    return work


def top(data):
    logits, k = torch.from_numpy(data["logits"]), int(data["k"])
    return lambda: {"rows": margin(logits).topk(k).indices}


def margin(logits):
    ranked = torch.softmax(logits, 1).sort(1, descending=True).values
    return 1 - (ranked[:, 0] - ranked[:, 1])


def bald(data):
    logits, k = torch.from_numpy(data["logits"]), int(data["k"])

    def work():
        p = torch.softmax(logits, 2)
        mean = p.mean(1)
        total = -torch.special.xlogy(mean, mean).sum(1)
        return {"rows": (total + torch.special.xlogy(p, p).sum(2).mean(1)).topk(k).indices}

    return work


def quotas(data):
    logits, k = torch.from_numpy(data["logits"]), int(data["k"])
    groups = torch.from_numpy(data["groups"])

    def work():
        scores = margin(logits)
        picked = []
        for group in groups.unique():
            rows = (groups == group).nonzero()[:, 0]
            picked.append(rows[scores[rows].topk(min(k, len(rows))).indices])
        rows = torch.cat(picked)
        return {"rows": rows[scores[rows].argsort(descending=True)]}

    return work


def core_set(data):
    """A running minimum of `cdist` to the last pick."""
    x = torch.from_numpy(data["x"])

    def work():
        nearest = torch.cdist(x, x[:LABELLED]).amin(1)
        nearest[:LABELLED] = -1
        rows = []
        for _ in range(int(data["k"])):
            rows.append(int(nearest.argmax()))
            apart = torch.cdist(x, x[rows[-1]][None])[:, 0]
            nearest = torch.minimum(nearest, apart)
            nearest[rows[-1]] = -1
        return {"rows": rows}

    return work


def badge(data):
    """The gradients [N, C D] as the authors write them, then k-means++."""
    logits, x = torch.from_numpy(data["logits"]), torch.from_numpy(data["x"])

    def work():
        generator = torch.Generator().manual_seed(0)
        a = torch.softmax(logits, 1)
        a[torch.arange(len(a)), a.argmax(1)] -= 1
        gradients = (a[:, :, None] * x[:, None, :]).flatten(1)
        rows = [int(gradients.norm(dim=1).argmax())]
        nearest = torch.full((len(x),), math.inf)
        while len(rows) < int(data["k"]):
            apart = torch.cdist(gradients, gradients[rows[-1]][None])[:, 0]
            nearest = torch.minimum(nearest, apart)
            rows.append(int(torch.multinomial(nearest**2, 1, generator=generator)))
        return {"rows": rows}

    return work


def kmeans(data):
    """Lloyd's algorithm from random rows."""
    x, k = torch.from_numpy(data["x"]), int(data["k"])

    def work():
        generator = torch.Generator().manual_seed(0)
        units = torch.nn.functional.normalize(x)
        centroids = units[torch.randperm(len(x), generator=generator)[:k]]
        for _ in range(10):
            of_rows = (units @ centroids.T).argmax(1)
            sums = torch.zeros_like(centroids).index_add_(0, of_rows, units)
            sums = torch.where(sums.any(1, keepdim=True), sums, centroids)
            centroids = torch.nn.functional.normalize(sums)
        return {"centroids": centroids}

    return work


def outliers(data):
    x, validation = torch.from_numpy(data["x"]), torch.from_numpy(data["validation"])

    def work():
        ordered = validation.sort(0).values.T.contiguous()
        n = ordered.shape[1]
        of_columns = x.T.contiguous()
        above = torch.searchsorted(ordered, of_columns, right=True)
        low = ordered.gather(1, (above - 1).clamp(0, n - 1))
        high = ordered.gather(1, above.clamp(0, n - 1))
        rank = (above - 1 + (of_columns - low) / (high - low)) / n
        rank = torch.where(above == 0, 0.0, torch.where(above == n, 1.0, rank))
        return {"rows": (1 - rank.mean(0)).topk(int(data["k"])).indices}

    return work


def dedup(data):
    """Blocks of 1,000 rows against all earlier ones."""
    x = torch.from_numpy(data["x"])

    def work():
        units = torch.nn.functional.normalize(x)
        found = []
        for start in range(0, len(units), 1000):
            block = units[start : start + 1000]
            similar = block @ units[: start + len(block)].T
            earlier = (similar >= SIMILAR).tril(start - 1)
            found.append(start + earlier.any(1).nonzero()[:, 0])
        return {"rows": torch.cat(found)}

    return work


def temperature(data):
    """L-BFGS on the temperature, as is usual since Guo et al."""
    logits, labels = torch.from_numpy(data["logits"]), torch.from_numpy(data["labels"])

    def work():
        temperature = torch.ones(1, requires_grad=True)
        optimiser = torch.optim.LBFGS([temperature], max_iter=50, line_search_fn="strong_wolfe")

        def loss():
            optimiser.zero_grad()
            found = torch.nn.functional.cross_entropy(logits / temperature, labels)
            found.backward()
            return found

        optimiser.step(loss)
        return {"temperature": temperature.detach()}

    return work
