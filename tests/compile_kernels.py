"""Compiles the kernels ahead of time, without a GPU, and prints what came out as JSON.

Run as a process of its own: Triton compiles or interprets, never both in one.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastal_kernels.launch import uncertainty_config
from fastal_kernels.uncertainty import uncertainty_kernel

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
# A launch configuration of each width that there is.
WIDTHS = {uncertainty_config(n).lanes: n for n in (*(2**i for i in range(1, 18)), 262_144)}
CASES = [
    *((n, "bf16", False, 1) for n in WIDTHS.values()),
    *((n, dtype, False, 1) for n in (2, 1024, 262_144) for dtype in ("fp16", "fp32")),
    *((n, "fp32", True, 1) for n in (2, 1024, 262_144)),
    *((n, "bf16", False, None) for n in (2, 1024, 262_144)),  # columns apart
]
OUTPUTS = ["p_least_confidence", "p_margin", "p_ratio", "p_entropy"]


def compile_uncertainty(target, n_classes, dtype, is_probs, stride_c):
    config = uncertainty_config(n_classes)
    signature = {"p_x": f"*{dtype}", "stride_n": "i64"}
    signature["stride_c"] = "i64" if stride_c is None else "constexpr"
    signature |= dict.fromkeys(OUTPUTS, "*fp32") | {"N": "i64", "C": "i32"}
    signature |= dict.fromkeys(("per_class", "per_log", "tolerance"), "fp32")
    signature |= dict.fromkeys(("IS_PROBS", "BLOCK_N", "LANES"), "constexpr")
    fixed = {"IS_PROBS": is_probs, "BLOCK_N": config.block_n, "LANES": config.lanes}
    fixed |= {} if stride_c is None else {"stride_c": stride_c}
    order = list(signature)
    source = ASTSource(
        uncertainty_kernel,
        signature,
        {(order.index(name),): fixed[name] for name in fixed},
        # As a launch on aligned memory specialises: these are multiples of 16.
        {
            (order.index(name),): [["tt.divisibility", 16]]
            for name in ("p_x", *OUTPUTS, *(("stride_n", "C") if n_classes % 16 == 0 else ()))
        },
    )
    return triton.compile(source, target=target, options={"num_warps": config.num_warps})


def resources(cubin):
    """Stack and local memory of a cubin, in bytes, by the disassembler in Triton's wheel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = [tool, "--dump-resource-usage", file.name]
        usage = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    fields = dict(field.split(":") for field in usage.split() if field.count(":") == 1)
    return {name: int(fields[name]) for name in ("REG", "STACK", "LOCAL")}


def main():
    found = []
    for (name, target), case in itertools.product(TARGETS.items(), CASES):
        compiled = compile_uncertainty(target, *case)
        found.append({"target": name, "case": case})
        if "cubin" in compiled.asm:
            found[-1] |= resources(compiled.asm["cubin"])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
