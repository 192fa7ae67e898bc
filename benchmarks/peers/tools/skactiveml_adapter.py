"""fastal in place of scikit-activeml's strategy: the same call of `query`, by the adapter."""

from benchmarks.peers.tools.skactiveml import Lookup, samples
from fastal.adapters.skactiveml import Uncertainty


def batch(data):
    x, y = samples(data, "probs")
    model, k = Lookup(lambda: data["probs"]), int(data["k"])
    strategy = Uncertainty("margin", random_state=0)
    return lambda: {"rows": strategy.query(x, y, model, fit_clf=False, batch_size=k)}
