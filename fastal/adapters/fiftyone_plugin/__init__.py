"""A plugin of FiftyOne: the functions of `fastal.adapters.fiftyone` as operators of its App.

FiftyOne finds it if this folder, or a link to it, is in its folder of plugins. It then loads this
file under a name of its own.
"""

from collections.abc import Callable
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

import fastal
from fastal import diversity
from fastal.adapters import fiftyone as adapter

_KINDS = "logits", "probs", "log_probs", "multilabel_logits", "multilabel_probs"
_AGGREGATES = "mean", "max", "sum", "least"
_STRATEGIES: dict[str, Callable[..., fastal.Picks]] = {
    "k_center": diversity.k_center,
    "typiclust": diversity.typiclust,
}


class _Operator(foo.Operator):
    """What the operators share: they read a field of the target view.

    Attributes:
        called: the name of the operator.
        label: its name in the App.
        description: a sentence for the list of operators.
        of_embeddings: whether the field holds embeddings.
        into: the name of the field that is written; None: the operator shows a view instead.
    """

    called: str
    label: str
    description: str
    of_embeddings = True
    into: str | None = None

    @property
    def config(self) -> Any:
        """What FiftyOne lists and checks."""
        return foo.OperatorConfig(
            name=self.called, label=self.label, description=self.description,
            allow_delegated_execution=self.into is not None, risk_level=types.RiskLevel.MEDIUM,
        )  # fmt: skip

    def resolve_input(self, ctx: Any) -> Any:
        """The form in the App."""
        ctx.target_view(require_flat=True)  # FiftyOne then asks which samples to read
        inputs = types.Object()
        inputs.str(
            "field", required=True, label="Embeddings" if self.of_embeddings else "Predictions",
            description=(
                "A field with a vector per sample" if self.of_embeddings else
                "A field with logits, a Classification, or a path such as "
                "predictions.detections.confidence"
            ),
            view=_choices(_paths(ctx.dataset, self.of_embeddings), types.AutocompleteView()),
        )  # fmt: skip
        self.add_inputs(inputs)
        inputs.bool(
            "skip_missing", default=False, label="Leave out samples without a value",
            description="Otherwise they are an error",
        )  # fmt: skip
        if self.into is None:
            inputs.int("k", min=1, default=100, required=True, label="How many samples to pick")
            inputs.str(
                "labelled_tag", label="Tag of labelled samples",
                description="They are not picked, and diverse samples differ from them too",
            )  # fmt: skip
            inputs.str("rank_field", label="Field to write the ranks to")
            inputs.str("score_field", label="Field to write the scores to")
        else:
            inputs.str("into", default=self.into, label="Field to write the values to")
        return types.Property(inputs, view=types.View(label=self.label))

    def add_inputs(self, inputs: Any) -> None:
        """Adds the inputs that are this operator's own."""

    def execute(self, ctx: Any) -> dict[str, int] | None:
        """Computes, and writes or shows the result."""
        given = {name: value for name, value in ctx.params.items() if value not in (None, "")}
        samples = ctx.target_view(require_flat=True)
        field = given.pop("field")
        if (tag := given.pop("labelled_tag", None)) is not None:
            given["labelled"] = _labelled(ctx.dataset, tag)
            samples = samples.match_tags(tag, bool=False)
        if given.pop("skip_missing", False):
            given["missing"] = "skip"
        if self.into is not None:
            self.compute(samples, field, given.pop("into", self.into), **given)
            if not ctx.delegated:
                ctx.ops.reload_dataset()
            return None
        writes = {"rank_field", "score_field"}.intersection(given)
        view = self.pick(samples, field, given.pop("k"), **given)
        if writes:
            ctx.ops.reload_dataset()
        ctx.ops.set_view(view=view)
        return {"picked": len(view)}

    def compute(self, samples: Any, field: str, into: str, **options: Any) -> None:
        """Writes the values of all samples; of operators with `into`."""
        raise NotImplementedError

    def pick(self, samples: Any, field: str, k: int, **options: Any) -> Any:
        """The view of the picks; of operators without `into`."""
        raise NotImplementedError

    def resolve_output(self, _: Any) -> Any:
        """What the App shows at the end."""
        outputs = types.Object()
        if self.into is None:
            outputs.int("picked", label="Samples picked")
        return types.Property(outputs)


class _OfPredictions(_Operator):
    """What the operators of uncertainty share."""

    of_embeddings = False

    def add_inputs(self, inputs: Any) -> None:
        """Adds the arguments of `fastal.select`."""
        _add_enum(inputs, "by", fastal.Scores._fields, "Score", default="margin")
        _add_enum(inputs, "kind", _KINDS, "What the field holds", default="logits")
        inputs.float("temperature", default=1.0, label="Temperature, which divides the logits")
        _add_enum(
            inputs, "aggregate", _AGGREGATES,
            "How the scores of several labels of a sample become one",
        )  # fmt: skip
        inputs.bool("skip_invalid", default=False, label="Leave out samples with NaN or infinity")


class SelectUncertain(_OfPredictions):
    """Shows the samples that the model is least certain of, best first."""

    called = "select_uncertain"
    label = "fastal: select uncertain samples"
    description = "Shows the samples that the model is least certain of"

    def pick(self, samples: Any, field: str, k: int, **options: Any) -> Any:
        """See `fastal.adapters.fiftyone.select`."""
        options.pop("labelled", None)
        return adapter.select(samples, field, k, **_with_on_invalid(options))


class SelectDiverse(_Operator):
    """Shows samples that differ from one another, by their embeddings."""

    called = "select_diverse"
    label = "fastal: select diverse samples"
    description = "Shows samples that differ from one another, by their embeddings"

    def add_inputs(self, inputs: Any) -> None:
        """Adds the strategy."""
        _add_enum(inputs, "strategy", _STRATEGIES, "Strategy", default="k_center")

    def pick(
        self, samples: Any, field: str, k: int, *, strategy: str = "k_center", **options: Any
    ) -> Any:
        """See `fastal.adapters.fiftyone.select`."""
        if "labelled" in options:
            missing = options.get("missing", "raise")
            options["labelled"] = adapter.open_samples(options["labelled"], field, missing=missing)
        return adapter.select(samples, field, k, _STRATEGIES[strategy], **options)


class ComputeUncertainty(_OfPredictions):
    """Writes the uncertainty of each sample into a field."""

    called = "compute_uncertainty"
    label = "fastal: compute uncertainty"
    description = "Writes how uncertain the model is of each sample into a field"
    into = "uncertainty"

    def compute(self, samples: Any, field: str, into: str, **options: Any) -> None:
        """See `fastal.adapters.fiftyone.compute_uncertainty`."""
        adapter.compute_uncertainty(samples, field, into, **_with_on_invalid(options))


class ComputeRepresentativeness(_Operator):
    """Writes into a field how similar each sample is to all samples together."""

    called = "compute_representativeness"
    label = "fastal: compute representativeness"
    description = "Writes into a field how similar each sample is to all samples together"
    into = "representativeness"

    def compute(self, samples: Any, field: str, into: str, **options: Any) -> None:
        """See `fastal.adapters.fiftyone.compute_representativeness`."""
        adapter.compute_representativeness(samples, field, into, **options)


class ComputeUniqueness(_Operator):
    """Writes into a field how far each sample is from the most similar other sample."""

    called = "compute_uniqueness"
    label = "fastal: compute uniqueness"
    description = "Writes into a field how far each sample is from the most similar other sample"
    into = "uniqueness"

    def compute(self, samples: Any, field: str, into: str, **options: Any) -> None:
        """See `fastal.adapters.fiftyone.compute_uniqueness`."""
        adapter.compute_uniqueness(samples, field, into, **options)


OPERATORS = (
    SelectUncertain,
    SelectDiverse,
    ComputeUncertainty,
    ComputeRepresentativeness,
    ComputeUniqueness,
)


def register(plugin: Any) -> None:
    """Called by FiftyOne when it loads the plugin."""
    for operator in OPERATORS:
        plugin.register(operator)


def _labelled(dataset: Any, tag: str) -> Any:
    if tag not in (known := dataset.distinct("tags")):
        raise ValueError(f"labelled_tag: no sample has the tag {tag!r}; the tags are {known}")
    return dataset.match_tags(tag)


def _with_on_invalid(options: dict[str, Any]) -> dict[str, Any]:
    skip = options.pop("skip_invalid", False)
    return {**options, "on_invalid": "skip" if skip else "raise"}


def _add_enum(inputs: Any, name: str, values: Any, label: str, default: str | None = None) -> None:
    view = _choices(values, types.DropdownView())
    inputs.enum(name, view.values(), label=label, default=default, view=view)


def _choices(values: Any, view: Any) -> Any:
    for value in values:
        view.add_choice(value, label=value)
    return view


def _paths(dataset: Any, of_embeddings: bool) -> list[str]:
    """The fields that the form suggests."""
    fields = dataset.get_field_schema(flat=True)
    return [
        path
        for path, field in fields.items()
        if isinstance(field, fo.VectorField) or (not of_embeddings and path.endswith(".confidence"))
    ]
