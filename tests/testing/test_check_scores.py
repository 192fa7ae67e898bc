"""check_scores passes right scores, and catches wrong ones."""

import numpy as np
import pytest
import torch

import fastal
from fastal.testing import check_scores, definitions

QUICK = {"n_classes": [3, 64], "dtypes": [torch.float16, torch.float32]}
NAMES = fastal.Scores._fields


def checked(score, **options):
    check_scores(score, **QUICK | options)


def right(x, kind):
    return fastal.score(x, kind=kind, backend="torch")


def probabilities(x, kind):
    """Normalised in float64, with NaN for invalid rows."""
    x = x.double()
    p = x / x.sum(1, keepdim=True) if kind == "probs" else torch.softmax(x, 1)
    return torch.where(right_or_nan(x, kind).margin.isnan()[:, None], torch.nan, p)


def right_or_nan(x, kind):
    return fastal.score(x, kind=kind, backend="torch", on_invalid="skip")


@pytest.mark.full
@pytest.mark.parametrize("on_invalid", ["raise", "skip"])
def test_right_scores_pass_every_check(on_invalid):
    def score(x, kind):
        return fastal.score(x, kind=kind, backend="torch", on_invalid=on_invalid)

    check_scores(score, on_invalid=on_invalid)


@pytest.mark.parametrize(
    "form", [dict, lambda s: fastal.Scores(*s.values()), lambda s: {**s, "another": None}]
)
def test_scores_may_have_any_form(form):
    def score(x, kind):
        return form({name: list(values) for name, values in right(x, kind)._asdict().items()})

    checked(score, kinds=["logits"])


def test_numpy_code_of_one_score_passes():
    def score(x, kind):
        ranked = np.sort(x.double().numpy(), axis=1)
        with np.errstate(over="ignore"):
            gap = ranked[:, -2] - ranked[:, -1]
            return {"ratio": np.exp(gap) if kind != "probs" else ranked[:, -2] / ranked[:, -1]}

    checked(score, names=["ratio"], on_invalid=None)


# --- wrong scores, by what the message says of them


def changed(**wrong):
    """Right scores, but for some that are functions of float64 probabilities [N, n]."""

    def score(x, kind):
        p = probabilities(x, kind)
        replaced = {name: function(p) for name, function in wrong.items()}
        return {**right_or_nan(x, kind)._asdict(), **replaced}

    return score


def entropy_in(p, log_p, base):
    return -(p * log_p).nan_to_num().sum(1) / np.log(base)


def top(p):
    return p.topk(2).values.unbind(1)


def ranked_scores(p):
    """The textbook's formulas as they are printed, in the dtype of p."""
    p1, p2 = top(p)
    n = p.shape[1]
    entropy = entropy_in(p, p.log(), n)
    return fastal.Scores(n / (n - 1) * (1 - p1), 1 - (p1 - p2), p2 / p1, entropy)


def low_precision(dtype):
    def score(x, kind):
        found = ranked_scores(probabilities(x, kind).to(dtype))
        return {name: values.float().clamp(0, 1) for name, values in found._asdict().items()}

    return score


def summed_in_float16(x, kind):
    """The sum of all but the largest has 11 bits."""
    p = probabilities(x, kind)
    ranked = (p / p.amax(1, keepdim=True)).sort(descending=True).values
    tail = torch.zeros(len(p), dtype=torch.float16)
    for column in ranked[:, 1:].unbind(1):
        tail = tail + column.half()
    tail = tail.double()
    return {"margin": (tail + ranked[:, 1]) / (1 + tail)}


def without_the_maximum(x, kind):
    """e^x itself, which is infinite from x = 89 on."""
    e = x.float().exp() if kind != "probs" else x.float()
    return {"margin": ranked_scores(e / e.sum(1, keepdim=True)).margin}


def entropy_of_zeros(x, kind):
    """0 log 0 is NaN."""
    p = probabilities(x, kind)
    return {"entropy": -(p * p.log()).sum(1) / np.log(p.shape[1])}


def sums_of_two_scores(x, kind):
    return {name: values + values for name, values in right(x, kind)._asdict().items()}


WRONG = {
    "entropy in nats": (
        changed(entropy=lambda p: entropy_in(p, p.log(), np.e)),
        r"entropy: row .* relative error is 0\.099",
    ),
    "1 - margin": (changed(margin=lambda p: top(p)[0] - top(p)[1]), "margin: row"),
    "the product, not the ratio": (changed(ratio=lambda p: top(p)[0] * top(p)[1]), "ratio: row"),
    "least confidence not scaled": (
        changed(least_confidence=lambda p: 1 - top(p)[0]),
        "least_confidence: row",
    ),
    "1e-12 added to the margin": (
        changed(margin=lambda p: (p.topk(p.shape[1]).values[:, 1:].sum(1) + top(p)[1]) + 1e-12),
        "margin: row .*(at 1 - 1e-12|-inf|largest number)",
    ),
    "1e-12 added within the logarithm": (
        changed(entropy=lambda p: entropy_in(p, (p + 1e-12).log(), p.shape[1])),
        "entropy: row .*(at 1 - 1e-12|-inf|largest number)",
    ),
    "the printed formula in float64": (
        changed(margin=lambda p: 1 - (top(p)[0] - top(p)[1])),
        "margin: row",
    ),
    "in float32": (low_precision(torch.float32), "check_scores: float16 logits"),
    "in float16": (low_precision(torch.float16), "check_scores: float16 logits"),
    "summed in float16": (summed_in_float16, "margin: row"),
    "no maximum subtracted": (without_the_maximum, "margin: row .*got nan"),
    "0 log 0": (entropy_of_zeros, "entropy: row .*got nan"),
    "twice": (sums_of_two_scores, "least_confidence: row .* relative error is 1,"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_scores_are_caught(name):
    score, message = WRONG[name]
    wrong = list(score(torch.tensor([[0.0, 1.0]]), "logits"))
    names = wrong if isinstance(wrong[0], str) else NAMES
    with pytest.raises(AssertionError, match=message):
        checked(score, names=names, on_invalid=None)


# --- wrong handling of what is no regime of accuracy


def writes(x, kind):
    scores = right(x, kind)
    x[:, 0] = 0
    return scores


def by_storage(x, kind):
    """Reads memory as if rows were contiguous."""
    first = x.storage_offset()
    flat = torch.as_strided(x, (x.untyped_storage().nbytes() // x.element_size() - first,), (1,))
    return right_or_nan(flat[: x.numel()].view(x.shape), kind)


def in_company(x, kind):
    """The last bit of a score depends on how many rows there are."""
    scores = right(x, kind)
    bits = 1 if len(x) > 300 else 1 + 1e-7
    return [(values.double() * bits).clamp(max=1) for values in scores]


def without_infinity(x, kind):
    """Replaces -inf in place."""
    return right_or_nan(x.clamp_(min=torch.finfo(x.dtype).min), kind)


def no_rows(x, kind):
    if not len(x):
        raise IndexError("no row 0")
    return right(x, kind)


def a_column(x, kind):
    return {name: values[:, None] for name, values in right(x, kind)._asdict().items()}


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (writes, r"float16 logits \[17, 3\], seed 3: the input was written to"),
        (without_infinity, r"float16 logits \[17, 3\], seed 3: the input was written to"),
        (by_storage, "(transposed|stepped|column slice): "),
        (
            in_company,
            r"float16 logits \[301, 3\], seed 1: .*: row 0 has other bits among",
        ),
        (no_rows, r"\[0, 3\], seed 1: raised IndexError: no row 0"),
        (a_column, r"wanted numbers \[17\], got float64 \[17, 1\]"),
        (lambda x, kind: {}, "wanted least_confidence, margin, ratio, entropy; got nothing"),
        (lambda x, kind: right(x, kind)[:2], "wanted 4 scores"),
        (lambda x, kind: right(x, "logits"), "float16 probs"),
    ],
)
def test_other_faults_are_caught(score, message):
    with pytest.raises(AssertionError, match=message):
        checked(score, on_invalid=None)


def raising_late(x, kind):
    """InvalidRows that names places among the invalid rows."""
    try:
        return right(x, kind)
    except fastal.InvalidRows as error:
        raise fastal.InvalidRows([0], error.count, error.span, error.reason) from error


def in_chunks(size):
    """A backend that names rows by their place in the chunk."""

    def score(x, kind):
        chunks = [right(part, kind) for part in x.split(size)]
        return [torch.cat(parts) for parts in zip(*chunks, strict=True)]

    return score


def in_the_first_columns(x, kind):
    """Finds what is invalid in the first 32 columns."""
    right(torch.cat([x[:, :32], x[:, :32].nan_to_num(0, 0, 0)], 1), "logits")
    return right_or_nan(x, kind)


def up_to_500_classes(x, kind):
    """Wide rows are not validated."""
    return right(x, kind) if x.shape[1] <= 500 else right_or_nan(x, kind)


def writing_where_it_refuses(x, kind):
    try:
        return right(x, kind)
    finally:
        if x.isnan().any():
            x[x.isnan()] = 0


def zeros_for_nan(x, kind):
    return [values.nan_to_num() for values in right_or_nan(x, kind)]


def nan_for_all(x, kind):
    scores = right_or_nan(x, kind)
    return [values + 0 * values.sum() for values in scores]


def infinity_is_certain(x, kind):
    """Takes +inf for a class that is certain."""
    certain = (x == torch.inf).any(1) & ~x.isnan().any(1)
    return [torch.where(certain, 0, values) for values in right_or_nan(x, kind)]


@pytest.mark.parametrize(
    ("score", "on_invalid", "message"),
    [
        (right_or_nan, "raise", r"are invalid \(nan\): wanted InvalidRows that names row 2, got"),
        (raising_late, "raise", r"are invalid \(nan\): wanted an error that names row 2"),
        (
            in_chunks(2048),
            "raise",
            r"\[2051, 64\], rows 2048 and 2050 are .*, got InvalidRows\(.row 0",
        ),
        (
            in_chunks(1000),
            "raise",
            r"\[2051, 64\], rows 2048 and 2050 are .*, got InvalidRows\(.row 48",
        ),
        (in_the_first_columns, "raise", r"\(nan\): wanted .* names row 2, got InvalidRows\(.row 4"),
        (writing_where_it_refuses, "raise", r"are invalid \(nan\): the input was written to"),
        (right, "skip", r"are invalid \(nan\): raised InvalidRows"),
        (zeros_for_nan, "skip", r"are invalid \(nan\): .*wanted NaN there alone"),
        (nan_for_all, "skip", "least_confidence: wanted NaN there alone"),
        (infinity_is_certain, "skip", r"are invalid \(\+inf\): .*wanted NaN there alone"),
    ],
)
def test_invalid_rows_that_are_not_found_are_caught(score, on_invalid, message):
    with pytest.raises(AssertionError, match=message):
        checked(score, on_invalid=on_invalid, kinds=["logits"], same_bits=False)


@pytest.mark.parametrize("n_classes", [[4, 1000], [4, 10, 1000], [4, 10, 20, 1000, 8192]])
def test_wide_rows_that_are_not_validated_are_caught(n_classes):
    options = {"kinds": ["probs"], "dtypes": [torch.float32], "same_bits": False}
    with pytest.raises(AssertionError, match=r"\[5, 1000\], rows 2 and 4 are invalid \(nan\)"):
        check_scores(up_to_500_classes, n_classes=n_classes, **options)


def test_what_is_not_asked_for_is_not_checked():
    checked(in_company, same_bits=False, kinds=["logits"])
    checked(right_or_nan, on_invalid=None, kinds=["logits"])
    checked(lambda x, kind: {"ratio": right(x, kind).ratio}, names=["ratio"])
    seen = set()

    def seeing(x, kind):
        seen.add((kind, x.dtype, x.shape[1]))
        return right(x, kind)

    check_scores(
        seeing, kinds=["probs"], dtypes=[torch.float64], n_classes=[5], on_invalid=None,
        same_bits=False,
    )  # fmt: skip
    assert seen == {("probs", torch.float64, 5)}


def test_a_failure_keeps_the_error_that_it_came_from():
    def broken(x, kind):
        return x.missing

    with pytest.raises(AssertionError, match=r"raised AttributeError: .*'missing'") as caught:
        checked(broken)
    assert isinstance(caught.value.__cause__, AttributeError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["doubt"]}, r"names: wanted any of least_confidence, .*, got \['doubt'\]"),
        ({"names": "margin"}, "names: wanted any of .*, got 'margin'"),
        ({"names": []}, r"names: wanted any of .*, got \[\]"),
        ({"kinds": ["logit"]}, "kinds: wanted any of logits, probs, log_probs"),
        ({"dtypes": [torch.int64]}, "dtypes: wanted any of torch.float16, "),
        ({"n_classes": [1, 2]}, "n_classes: wanted numbers of classes, each at least 2"),
        ({"n_classes": []}, "n_classes: wanted numbers"),
        ({"n_classes": 10}, "n_classes: wanted numbers of classes, each at least 2, got 10"),
        ({"n_classes": np.array([2.5])}, r"n_classes: wanted numbers .* got array\(\[2.5\]\)"),
        ({"kinds": [["logits"]]}, r"kinds: wanted any of .*, got \[\['logits'\]\]"),
        ({"dtypes": torch.float32}, "dtypes: wanted any of .*, got torch.float32"),
        ({"on_invalid": "drop"}, "on_invalid: wanted raise, skip or None, got 'drop'"),
    ],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        check_scores(right, **options)


def test_options_may_be_arrays_and_iterators():
    seen = set()

    def seeing(x, kind):
        seen.add((kind, x.dtype, x.shape[1]))
        return {"margin": right(x, kind).margin}

    check_scores(
        seeing, names=np.array(["margin"]), kinds=iter(["logits"]), dtypes=iter([torch.float32]),
        n_classes=np.array([5, 7]),
    )  # fmt: skip
    assert seen == {("logits", torch.float32, n) for n in (5, 7)}


def test_definitions_are_right_scores():
    checked(definitions, on_invalid=None, same_bits=False)
