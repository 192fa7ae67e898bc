"""A plugin of FiftyOne: the functions of `fastal.adapters.fiftyone` as operators of its App.

FiftyOne finds it if this folder, or a link to it, is in its folder of plugins. It then loads this
file under a name of its own.
"""

from collections.abc import Callable, Iterable
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
        can_wait: whether it may run later, elsewhere, so without the App.
        field_label: what the field is, in the form.
        field_description: which fields are meant, in the form.
        suggested: the last parts of the paths that the form suggests beside vectors.
    """

    called: str
    label: str
    description: str
    can_wait = False
    field_label = "Embeddings"
    field_description = "A field with a vector per sample"
    suggested: tuple[str, ...] = ()

    @property
    def config(self) -> Any:
        """What FiftyOne lists and checks."""
        return foo.OperatorConfig(
            name=self.called, label=self.label, description=self.description,
            allow_delegated_execution=self.can_wait, risk_level=types.RiskLevel.MEDIUM,
        )  # fmt: skip

    def resolve_input(self, ctx: Any) -> Any:
        """The form in the App."""
        ctx.target_view(require_flat=True)  # FiftyOne then asks which samples to read
        inputs = types.Object()
        inputs.str(
            "field", required=True, label=self.field_label, description=self.field_description,
            view=_choices(self._paths(ctx.dataset), types.AutocompleteView()),
        )  # fmt: skip
        self.add_inputs(inputs)
        for what, of in (("missing", "without a value"), ("invalid", "with NaN or infinity")):
            inputs.bool(
                f"skip_{what}", default=False, label=f"Leave out samples {of}",
                description="Otherwise they are an error",
            )  # fmt: skip
        return types.Property(inputs, view=types.View(label=self.label))

    def _paths(self, dataset: Any) -> list[str]:
        fields = dataset.get_field_schema(flat=True)
        return [
            path
            for path, field in fields.items()
            if isinstance(field, fo.VectorField) or path.split(".")[-1] in self.suggested
        ]

    def add_inputs(self, inputs: Any) -> None:
        """Adds the inputs that come after the field."""

    def execute(self, ctx: Any) -> dict[str, int] | None:
        """Computes, and writes or shows the result."""
        given = {name: value for name, value in ctx.params.items() if value not in (None, "")}
        given.pop("custom_view_target", None)  # FiftyOne's own
        for name, argument in (("skip_missing", "missing"), ("skip_invalid", "on_invalid")):
            if given.pop(name, False):
                given[argument] = "skip"
        return self.run(ctx, ctx.target_view(require_flat=True), given.pop("field"), given)

    def run(
        self, ctx: Any, samples: Any, field: str, given: dict[str, Any]
    ) -> dict[str, int] | None:
        """Computes with the parameters that were given."""
        raise NotImplementedError


class _OfPredictions(_Operator):
    """What the operators of uncertainty share."""

    field_label = "Predictions"
    field_description = (
        "A field with logits, a Classification, or a path such as predictions.detections.confidence"
    )
    suggested = ("confidence",)

    def add_inputs(self, inputs: Any) -> None:
        """Adds the arguments of `fastal.select`."""
        super().add_inputs(inputs)
        _add_enum(inputs, "by", fastal.Scores._fields, "Score", default="margin")
        _add_enum(inputs, "kind", _KINDS, "What the field holds", default="logits")
        inputs.float("temperature", default=1.0, label="Temperature, which divides the logits")
        _add_enum(
            inputs, "aggregate", _AGGREGATES,
            "How the scores of several labels of a sample become one",
        )  # fmt: skip


class _Select(_Operator):
    """Shows a view of the picks."""

    def add_inputs(self, inputs: Any) -> None:
        """Adds the number of picks."""
        inputs.int("k", min=1, default=100, required=True, label="How many samples to pick")

    def resolve_input(self, ctx: Any) -> Any:
        """The form in the App."""
        form = super().resolve_input(ctx)
        inputs = form.type
        inputs.str(
            "labelled_tag", label="Tag of labelled samples",
            description="They are not picked, and diverse samples differ from them too",
        )  # fmt: skip
        inputs.str("rank_field", label="Field to write the ranks to")
        inputs.str("score_field", label="Field to write the scores to")
        return form

    def run(self, ctx: Any, samples: Any, field: str, given: dict[str, Any]) -> dict[str, int]:
        """Picks among the samples that are not labelled."""
        labelled = None
        if (tag := given.pop("labelled_tag", None)) is not None:
            labelled = _labelled(ctx.dataset, tag)
            samples = samples.match_tags(tag, bool=False)
        writes = "rank_field" in given or "score_field" in given
        view = self.pick(samples, labelled, field, given)
        if writes:
            ctx.ops.reload_dataset()
        ctx.ops.set_view(view=view)
        return {"picked": len(view)}

    def pick(self, samples: Any, labelled: Any, field: str, given: dict[str, Any]) -> Any:
        """The view of the picks; labelled samples are None if no tag was given."""
        raise NotImplementedError

    def resolve_output(self, _: Any) -> Any:
        """What the App shows at the end."""
        outputs = types.Object()
        outputs.int("picked", label="Samples picked")
        return types.Property(outputs)


class _Compute(_Operator):
    """Writes a field.

    Attributes:
        into: the name of the field.
        function: of the samples, the field to read and the one to write.
    """

    can_wait = True
    into: str
    function: Callable[..., None]

    def resolve_input(self, ctx: Any) -> Any:
        """The form in the App."""
        form = super().resolve_input(ctx)
        form.type.str("into", default=self.into, label="Field to write the values to")
        return form

    def run(self, ctx: Any, samples: Any, field: str, given: dict[str, Any]) -> None:
        """Writes the values of all samples."""
        self.function(samples, field, given.pop("into", self.into), **given)
        if not ctx.delegated:
            ctx.ops.reload_dataset()


class SelectUncertain(_OfPredictions, _Select):
    """Shows the samples that the model is least certain of, best first."""

    called = "select_uncertain"
    label = "fastal: select uncertain samples"
    description = "Shows the samples that the model is least certain of"

    def pick(self, samples: Any, _: Any, field: str, given: dict[str, Any]) -> Any:
        """See `fastal.adapters.fiftyone.select`."""
        return adapter.select(samples, field, given.pop("k"), **given)


class SelectDiverse(_Select):
    """Shows samples that differ from one another, by their embeddings."""

    called = "select_diverse"
    label = "fastal: select diverse samples"
    description = "Shows samples that differ from one another, by their embeddings"

    def add_inputs(self, inputs: Any) -> None:
        """Adds the strategy."""
        super().add_inputs(inputs)
        _add_enum(inputs, "strategy", _STRATEGIES, "Strategy", default="k_center")

    def pick(self, samples: Any, labelled: Any, field: str, given: dict[str, Any]) -> Any:
        """See `fastal.adapters.fiftyone.select`."""
        strategy = _STRATEGIES[given.pop("strategy", "k_center")]
        if labelled is not None:
            missing = given.get("missing", "raise")
            given["labelled"] = adapter.open_samples(labelled, field, missing=missing)
        return adapter.select(samples, field, given.pop("k"), strategy, **given)


class ComputeUncertainty(_OfPredictions, _Compute):
    """Writes the uncertainty of each sample into a field."""

    called = "compute_uncertainty"
    label = "fastal: compute uncertainty"
    description = "Writes how uncertain the model is of each sample into a field"
    into = "uncertainty"
    function = staticmethod(adapter.compute_uncertainty)


class ComputeRepresentativeness(_Compute):
    """Writes into a field how similar each sample is to all samples together."""

    called = "compute_representativeness"
    label = "fastal: compute representativeness"
    description = "Writes into a field how similar each sample is to all samples together"
    into = "representativeness"
    function = staticmethod(adapter.compute_representativeness)


class ComputeUniqueness(_Compute):
    """Writes into a field how far each sample is from the most similar other sample."""

    called = "compute_uniqueness"
    label = "fastal: compute uniqueness"
    description = "Writes into a field how far each sample is from the most similar other sample"
    into = "uniqueness"
    function = staticmethod(adapter.compute_uniqueness)


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


def _add_enum(
    inputs: Any, name: str, values: Iterable[str], label: str, default: str | None = None
) -> None:
    view = _choices(values, types.DropdownView())
    inputs.enum(name, view.values(), label=label, default=default, view=view)


def _choices(values: Iterable[str], view: Any) -> Any:
    for value in values:
        view.add_choice(value, label=value)
    return view
