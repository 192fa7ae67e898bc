"""The names that arguments take their values from. Light: the command line lists them."""

UNCERTAINTY_SCORES = ("least_confidence", "margin", "ratio", "entropy")
SELECTION_SCORES = (*UNCERTAINTY_SCORES, "random")
KINDS = ("logits", "probs", "log_probs")
NOISES = ("power", "softmax", "softrank")
BACKENDS = ("auto", "triton", "native", "torch")
BYTES_DTYPES = ("float16", "bfloat16", "float32", "float64")  # of a column of plain bytes
