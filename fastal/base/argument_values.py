"""The names that arguments take their values from. Light: the command line lists them."""

UNCERTAINTY_SCORES = ("least_confidence", "margin", "ratio", "entropy")
# Of items of several draws: the scores of their disagreement, and those of the mean of the draws.
DRAWS_SCORES = (
    "bald",
    "mean_entropy",
    "expected_entropy",
    "variation_ratio",
    "vote_entropy",
    "kl_to_mean",
    "variance",
    *UNCERTAINTY_SCORES,
)
DISAGREEMENT_SCORES = DRAWS_SCORES[: -len(UNCERTAINTY_SCORES)]
SELECTION_SCORES = (*UNCERTAINTY_SCORES, *DISAGREEMENT_SCORES, "score", "random")
CLASS_KINDS = ("logits", "probs", "log_probs")  # one distribution over the classes
LABEL_KINDS = ("multilabel_logits", "multilabel_probs")  # labels that are independent
KINDS = (*CLASS_KINDS, *LABEL_KINDS)
AGGREGATES = ("mean", "max", "sum", "least")  # or "top" and a number
NOISES = ("power", "softmax", "softrank")
TIES = ("first", "random")
KEEP = ("first", "nearest", "farthest", "random")  # which of several duplicates
VALUE_SUFFIXES = (".parquet", ".csv", ".npy")  # of files of a number for each row
ENGINES = ("local", "ray")  # who reads the passes over a pool
BACKENDS = ("auto", "triton", "native", "torch")
# The columns that files of picks may have of their own, so that no carried column may be named so.
PICKS_COLUMNS = ("rank", "row", "score", "id", "group", "cluster", "role")
TASK_COLUMNS = ("fastal_rank", "fastal_score")  # as rank and score are named in tasks
TOOLS = ("prodigy", "doccano", "argilla", "cvat")  # annotation tools that picks are written for
BYTES_DTYPES = ("float16", "bfloat16", "float32", "float64")  # of a column of plain bytes
