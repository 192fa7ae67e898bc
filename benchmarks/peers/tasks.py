"""The jobs, the most important first, and the tools that are measured on each."""

from typing import NamedTuple, TypeAlias

Size: TypeAlias = dict[str, int]  # the lengths of a job's arrays, by their names

MAIN = ("fastal", "torch_eager", "torch_compile", "numpy_scipy", "scikit_learn", "per_item")


class Tool(NamedTuple):
    """A tool that is measured; `benchmarks/peers/tools` has a module of the same key.

    Attributes:
        label: its name in tables.
        environment: the folder of its environment in .venv-adapters; empty: the one that runs this.
        distribution: the package whose version is written down.
    """

    label: str
    environment: str
    distribution: str


TOOLS = {
    "fastal": Tool("fastal", "", "fastal"),
    "skactiveml_adapter": Tool("fastal in scikit-activeml", "skactiveml", "fastal"),
    "torch_eager": Tool("torch, eager", "", "torch"),
    "torch_compile": Tool("torch.compile", "", "torch"),
    "numpy_scipy": Tool("NumPy and SciPy", "", "scipy"),
    "scikit_learn": Tool("scikit-learn", "", "scikit-learn"),
    "faiss": Tool("faiss", "faiss", "faiss-cpu"),
    "modal": Tool("modAL", "modal", "modAL-python"),
    "skactiveml": Tool("scikit-activeml", "skactiveml", "scikit-activeml"),
    "baal": Tool("baal", "baal", "baal"),
    "small_text": Tool("small-text", "small_text", "small-text"),
    "cleanlab": Tool("cleanlab", "cleanlab", "cleanlab"),
    "per_item": Tool("per item, from the book's definitions", "", "torch"),
}


class Task(NamedTuple):
    """A job.

    Attributes:
        title: what is done, in words.
        tools: the keys of the tools that do it, in the order of running.
        sizes: those of a full run, ascending. A tool that takes too long skips the rest.
        quick: those of a quick run.
    """

    title: str
    tools: tuple[str, ...]
    sizes: list[Size]
    quick: list[Size]


def _rows(*counts: int, **others: int) -> list[Size]:
    return [{"rows": count, **others} for count in counts]


_SCORES = ("fastal", "torch_eager", "torch_compile", "numpy_scipy", "modal", "skactiveml", "baal",
           "small_text", "per_item")  # fmt: skip
_LARGE = [{"rows": 64_000, "classes": 1000}]
_SWEEP = _rows(10_000, 100_000, 1_000_000, 10_000_000, classes=10)
_QUICK = _rows(1000, 4000, classes=10)

TASKS = {
    "three": Task(
        "the top 1,000 by each of least confidence, margin and entropy", _SCORES, _LARGE,
        [{"rows": 2000, "classes": 50}],
    ),
    "batch": Task(
        "a batch of 1,000 by margin, through scikit-activeml's `query`, from probabilities that "
        "are there already", ("skactiveml_adapter", "skactiveml"),
        _rows(10_000, 100_000, 1_000_000, classes=10), _rows(1000, 4000, classes=10),
    ),
    "top": Task("the top 1,000 by margin", _SCORES, _SWEEP, _QUICK),
    "scores": Task(
        "least confidence, margin, ratio and entropy of every row", (*_SCORES, "cleanlab"),
        [*_rows(10_000, 100_000, 1_000_000, classes=10), {"rows": 100_000, "classes": 100}, *_LARGE,
         {"rows": 2000, "classes": 32_000}], _QUICK,
    ),
    "bald": Task(
        "the top 1,000 by BALD",
        ("fastal", "torch_eager", "numpy_scipy", "skactiveml", "baal", "small_text", "per_item"),
        _rows(1000, 10_000, 100_000, 1_000_000, draws=10, classes=10),
        _rows(1000, 2000, draws=5, classes=4),
    ),
    "quotas": Task(
        "the best 50 of each of 20 groups by margin",
        ("fastal", "torch_eager", "numpy_scipy", "per_item"),
        _rows(10_000, 100_000, 1_000_000, classes=10), _rows(2000, classes=10),
    ),
    "core_set": Task(
        "a core-set of 100 rows by Euclidean distance, with 10 labelled rows",
        ("fastal", "torch_eager", "numpy_scipy", "skactiveml", "small_text"),
        _rows(1000, 10_000, 100_000, 1_000_000, width=64), _rows(500, 1000, width=8),
    ),
    "badge": Task(
        "100 rows by BADGE", ("fastal", "torch_eager", "skactiveml"),
        _rows(1000, 10_000, 100_000, classes=10, width=64), _rows(500, classes=4, width=8),
    ),
    "kmeans": Task(
        "100 clusters by cosine similarity, 10 iterations",
        ("fastal", "torch_eager", "scikit_learn", "faiss"),
        _rows(10_000, 100_000, width=128), _rows(1000, width=8),
    ),
    "outliers": Task(
        "the top 1,000 by low rank of their activations among 1,000 validation rows",
        ("fastal", "torch_eager", "numpy_scipy", "per_item"),
        _rows(1000, 10_000, 100_000, 1_000_000, width=32), _rows(1000, width=8),
    ),
    "dedup": Task(
        "the rows whose cosine similarity to an earlier row is at least 0.95",
        ("fastal", "torch_eager", "numpy_scipy", "scikit_learn", "faiss"),
        _rows(1000, 10_000, 50_000, width=64), _rows(1000, width=64),
    ),
    "temperature": Task(
        "the temperature that labelled logits fit best",
        ("fastal", "torch_eager", "numpy_scipy", "scikit_learn", "cleanlab"),
        _rows(10_000, 100_000, 1_000_000, classes=10), _rows(2000, classes=10),
    ),
}  # fmt: skip
