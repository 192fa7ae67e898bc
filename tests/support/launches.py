"""Launches the kernels through Triton's JIT on a driver that only compiles; prints how many it did.

Run as a process of its own: Triton compiles or interprets, never both in one.
"""

import json
import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from fastal_kernels import draws as of_draws
from fastal_kernels import uncertainty as kernels
from fastal_kernels.launch import Isa
from fastal_kernels.measures import DRAWS_SCORES
from fastal_kernels.topk import Candidates


class Driver:
    """An sm_90 that is not there."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def launches():
    for n_classes in (2, 10, 1001):
        x = torch.randn(40, n_classes).bfloat16()
        yield f"{n_classes} classes", lambda x=x: kernels.uncertainty(x, kernels.UNCERTAINTY_SCORES)
        for rows in (slice(3, 21), slice(5, 40), slice(7, 8)):
            yield (
                "",
                lambda x=x, rows=rows: kernels.uncertainty(x[rows], kernels.UNCERTAINTY_SCORES),
            )
        for first_row in (0, 2**32 - 40, 5 * 2**32):
            candidates = Candidates(3, torch.device("cpu"), first_row >> 32, None)
            yield (
                f"{n_classes} classes, selecting",
                lambda x=x, first=first_row, into=candidates: kernels.select(
                    x, "margin", "logits", first, into
                ),
            )
    x = torch.randn(3, 150_001).half()
    yield "parts", lambda: kernels.uncertainty(x, kernels.UNCERTAINTY_SCORES)
    for n_classes in (10, 1500):
        x = torch.randn(7, 9, n_classes).half()
        for draws, temperature in (
            (x, 1.0), (x[:, :1], 1.7), (x[1:, 3:], 1e-3), (x.transpose(0, 1), 1.0),
        ):  # fmt: skip
            yield (
                f"draws of {n_classes} classes",
                lambda x=draws, t=temperature: of_draws.draws(x, DRAWS_SCORES, temperature=t),
            )


def main():
    driver.set_active(Driver())
    kernels.isa_of = of_draws.isa_of = lambda device: Isa(ptx=True)
    run, compiled = JITFunction.run, {}

    def compile_only(kernel, *args, grid, warmup, **kwargs):
        run(kernel, *args, grid=grid, warmup=True, **kwargs)

    JITFunction.run = compile_only
    before = 0
    for name, launch in launches():
        launch()
        after = sum(
            len(cache[0])
            for kernel in (
                kernels.narrow_kernel,
                kernels.wide_kernel,
                kernels.merge_kernel,
                of_draws.draws_kernel,
            )
            for cache in kernel.device_caches.values()
        )
        compiled[name] = compiled.get(name, 0) + after - before
        before = after
    json.dump(compiled, sys.stdout)


if __name__ == "__main__":
    main()
