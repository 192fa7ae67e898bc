"""Times the scores of hidden states on CPUs: `python -m benchmarks.head`.

Every figure is a ratio within one run, of works that run alternately. The bare product is torch's
`hidden @ weight.T`, which rounds its result to the dtype of the inputs. fastal's result is float32.
What users would write is the product in float32, then `fastal.score` of all logits.
"""

import argparse
import statistics

import torch

import fastal
from benchmarks.interleaved import interleaved

CASES = ((2048, 768, 32_000), (64, 4096, 131_072))  # rows, columns, classes
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def compare(n_rows: int, n_columns: int, n_classes: int, dtype: torch.dtype, rounds: int) -> None:
    """Times the product, the scores by a head, and the product with the scores after it."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n_rows, n_columns, generator=generator).to(dtype)
    weight = torch.empty(n_classes, n_columns, dtype=dtype)
    for part in weight.split(4096):
        part.copy_(torch.randn(part.shape, generator=generator) / n_columns**0.5)
    head = fastal.Head(weight, by="margin")
    selector = fastal.Selector(10, by=head)
    taken = interleaved(
        lambda: hidden @ weight.T,
        lambda: selector.update(hidden),
        lambda: fastal.score(hidden.float() @ weight.float().T),
        rounds=rounds,
    )
    bare, ours, written = (statistics.median(column) for column in zip(*taken, strict=True))
    ratio = statistics.median(product / scores for product, scores, _ in taken)
    flops = 2 * n_rows * n_columns * n_classes
    print(
        f"{n_rows:>5} x {n_columns} to {n_classes:>7} {str(dtype)[6:]:<9}"
        f"{flops / ours / 1e9:7.0f} GFLOP/s, bare product {flops / bare / 1e9:5.0f}: {ratio:5.0%} "
        f"of its rate; product, then scores, take {written / ours:4.1f} times as long"
    )


def main() -> None:
    """Prints a line for each shape and dtype."""
    parser = argparse.ArgumentParser(prog="benchmarks.head", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    print(f"fastal {fastal.__version__}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {rounds} rounds\n")
    for case in CASES:
        for dtype in DTYPES:
            compare(*case, dtype, rounds)


if __name__ == "__main__":
    main()
