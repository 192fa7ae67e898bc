"""The budgets of the kernels, checked in their machine code: no change may exceed them unseen."""

import pytest

from fastal.base.argument_values import DRAWS_SCORES
from fastal.ops.formulas import UNCERTAINTY_SCORES

LARGE = (4096, 32_000, 50_257, 131_072, 262_144)


def find(kernels, target, n_classes, dtype, measures=UNCERTAINTY_SCORES, by=None):
    """The kernel of a target for logits with adjacent columns."""
    want = {
        "n_classes": n_classes, "dtype": dtype, "kind": "logits", "measures": list(measures),
        "by": by, "stride_c": 1,
    }  # fmt: skip
    (found,) = (k for k in kernels if k["target"] == target and k["case"] == want)
    return found


def per_element(kernel, *kinds):
    """The instructions of the loop for each of its elements: all, or those of some kinds."""
    count = sum(kernel["loop_kinds"].get(kind, 0) for kind in kinds)
    return (count if kinds else kernel["loop_instructions"]) / kernel["loop_elements"]


def widths(kernel):
    return {int(width) for width in kernel["loop_loads"]}


def test_nothing_spills(kernels):
    assert {k["target"] for k in kernels} == {"sm_80", "sm_90", "sm_100", "gfx942"}
    for kernel in kernels:
        held = kernel["resources"]
        for name in ("stack", "local", "scratch", "vgpr_spills"):
            assert held.get(name, 0) == 0, kernel["name"]
        assert kernel["kernel_kinds"].get("local", 0) == 0, kernel["name"]


@pytest.mark.parametrize("n_classes", LARGE)
@pytest.mark.parametrize(("target", "most"), [("sm_80", 9), ("sm_90", 9), ("sm_100", 7)])
def test_large_rows_of_16_bits(kernels, target, most, n_classes):
    kernel = find(kernels, target, n_classes, "bf16")
    assert kernel["loop_trips"] > 0
    assert per_element(kernel) <= most
    assert per_element(kernel, "mufu", "convert") <= 1.1
    assert per_element(kernel, "shuffle", "redux", "barrier", "local", "shared") == 0
    assert widths(kernel) == {16}


@pytest.mark.parametrize("n_classes", LARGE)
def test_large_rows_of_32_bits(kernels, n_classes):
    kernel = find(kernels, "sm_90", n_classes, "fp32")
    assert per_element(kernel) <= 10
    assert per_element(kernel, "shuffle", "redux", "barrier", "local", "shared") == 0
    assert widths(kernel) == {16}


@pytest.mark.parametrize(("n_classes", "width"), [(100, 8), (1000, 16), (1001, 16)])
def test_middle_rows(kernels, n_classes, width):
    kernel = find(kernels, "sm_90", n_classes, "bf16")
    assert per_element(kernel) <= 12
    assert kernel["row_slots_per_element"] <= 15  # all that is done for a row, over its elements
    assert per_element(kernel, "barrier") == 0
    assert widths(kernel) == {width}
    assert widths(find(kernels, "sm_90", n_classes, "fp32")) == {16}


@pytest.mark.parametrize(("n_classes", "most", "alone"), [(2, 26, 20), (10, 20, 20)])
def test_narrow_rows(kernels, n_classes, most, alone):
    """`most` is the limit with all four scores, `alone` with entropy alone."""
    for measures, limit in ((UNCERTAINTY_SCORES, most), (("entropy",), alone)):
        kernel = find(kernels, "sm_90", n_classes, "fp32", measures)
        assert per_element(kernel) <= limit
        assert kernel["kernel_kinds"].get("shuffle", 0) == kernel["kernel_kinds"].get("barrier", 0)
        assert kernel["kernel_kinds"].get("shuffle", 0) == 0
        loaded = sum(int(width) * n for width, n in kernel["loop_loads"].items())
        assert loaded == 4 * kernel["loop_elements"]  # every byte once


@pytest.mark.parametrize("n_classes", [1000, 131_072])
def test_selection_costs_nothing_per_element(kernels, n_classes):
    scoring = find(kernels, "sm_90", n_classes, "bf16", ("entropy",))
    selecting = find(kernels, "sm_90", n_classes, "bf16", (), "entropy")
    assert selecting["loop_instructions"] <= scoring["loop_instructions"] + 3
    assert "atomic" not in selecting["loop_kinds"]
    if n_classes < 131_072:  # where rows are split, the kernel that merges selects
        assert selecting["kernel_kinds"]["atomic"] == 2  # one for keys, one for invalid rows


def test_only_the_scores_asked_for_are_computed(kernels):
    for n_classes in (1000, 131_072):
        alone = find(kernels, "sm_90", n_classes, "bf16", ("least_confidence",))
        every = find(kernels, "sm_90", n_classes, "bf16")
        assert per_element(alone) <= per_element(every) - 0.9  # the moment's multiply-add
        assert alone["bytes_per_row"] == every["bytes_per_row"] - 12


def test_memory_is_the_bound_of_common_pools(kernels):
    """The bound is predicted, not measured."""
    for n_classes, dtype in [(2, "fp32"), (10, "fp32"), (100, "fp32"), (1000, "bf16"), *((n, "bf16") for n in LARGE)]:  # fmt: skip  # noqa: E501
        for target in ("sm_80", "sm_90"):
            for card, predicted in find(kernels, target, n_classes, dtype)["predicted"].items():
                assert predicted["binding"] == "memory", (card, n_classes, dtype)


def test_tensor_cores_compute_the_products(kernels):
    """On NVIDIA, not those of float32 rows in full precision. The tiles fit the shared memory."""
    of_cosine = [k for k in kernels if "n_centroids" in k["case"]]
    assert {k["kernel"] for k in of_cosine} == {"nearest_kernel", "similarities_kernel"}
    for kernel in of_cosine:
        case, held = kernel["case"], kernel["resources"]
        assert held.get("shared", held.get("lds")) <= kernel["shared_limit"], kernel["name"]
        exact = case["dtype"] == "fp32" and not case["fast"]
        if exact and kernel["target"] != "gfx942":
            assert kernel["multiply_adds"] and not kernel["tensor"], kernel["name"]
        else:
            assert kernel["tensor"], kernel["name"]
        if kernel["target"] == "sm_90":
            assert all(op.startswith("HGMMA") for op in kernel["tensor"]), kernel["name"]
        if case["n_columns"] != 1001:  # whose rows begin anywhere
            assert min(map(int, kernel["kernel_loads"])) >= 8, kernel["name"]


def test_no_product_reads_a_buffer_that_may_be_overwritten(kernels):
    """Products that go on while the next tiles are read need as many buffers as stages."""
    pending = {k["name"]: k["pending_buffers"] for k in kernels if k.get("pending_buffers")}
    assert any("fast" in name for name in pending)
    for kernel in kernels:
        *_, stages = kernel.get("tile", [0])
        assert all(n >= stages for n in kernel.get("pending_buffers", [])), kernel["name"]


# By classes: the most instructions per value of a draw, on NVIDIA and on gfx942. They include the
# work per draw. The last has several tiles.
OF_DRAWS = {2: (200, 120), 10: (225, 155), 100: (190, 155), 1000: (170, 150), 131_072: (190, 105)}


def draws_of(kernels, n_classes, measures=None):
    """The kernels of draws of so many classes of float32 logits, by target."""
    found = [k for k in kernels if k["kernel"] == "draws_kernel"]
    wanted = DRAWS_SCORES if measures is None else measures
    return {
        k["target"]: k
        for k in found
        if k["case"]
        == {"n_classes": n_classes, "dtype": "fp32", "kind": "logits", "measures": list(wanted)}
    }


@pytest.mark.parametrize("n_classes", OF_DRAWS)
def test_draws(kernels, n_classes):
    for target, kernel in draws_of(kernels, n_classes).items():
        most = OF_DRAWS[n_classes][target == "gfx942"]
        assert kernel["per_value"]["total"] <= most, target
        assert kernel["per_value"]["float64"] >= 40, target  # no sum is float32
        assert kernel["resources"].get("resident_warps", 8) >= 8, target
        assert kernel["resources"].get("vgpr", 0) <= 128, target  # 4 waves on each SIMD
        has_one_tile = n_classes <= 1024
        assert kernel["loops"] == (1 if has_one_tile else 3), target
        if has_one_tile:  # each value is loaded once
            assert set(kernel["loop_loads"]) == {"4"}, target
            assert kernel["loop_loads"]["4"] <= 4, target
        if n_classes <= 100 or not has_one_tile:  # an item's lanes are in one warp, or meet later
            assert "barrier" not in kernel["per_value"], target


@pytest.mark.parametrize("n_classes", [10, 1000])
def test_only_what_the_scores_of_draws_need_is_computed(kernels, n_classes):
    every = draws_of(kernels, n_classes)
    for target, kernel in draws_of(kernels, n_classes, ("entropy",)).items():
        most = 0.75 * every[target]["per_value"]["total"]
        assert kernel["per_value"]["total"] <= most, target
