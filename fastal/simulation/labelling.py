"""One run: rounds of labelling by one strategy, from one seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastal.simulation.known_data import KnownData, rows_of
from fastal.simulation.metric import Metric, measured
from fastal.simulation.predicted import checked_predictions
from fastal.simulation.round import Round
from fastal.simulation.strategies import Strategy, picked_rows


@dataclass(frozen=True)
class Labelling:
    """Rounds of labelling, by any strategy and from any seed.

    Attributes:
        fit: makes a model of labelled rows, their labels and a seed.
        predict: the predictions of a model for rows.
        data: the rows and their labels.
        metric: scores the predictions of the test data.
        rounds: how many rounds there are.
        batch: how many rows are labelled in each.
    """

    fit: Callable[[Any, Any, int], Any]
    predict: Callable[[Any, Any], Any]
    data: KnownData
    metric: Metric
    rounds: int
    batch: int

    def run(self, name: str, strategy: Strategy, seed: int) -> list[float]:
        """The score of the model before the first round and after each round."""
        split = self.data.split(seed)
        labelled, scores = split.initial, []
        for number in range(1, self.rounds + 2):
            labels = rows_of(split.y, labelled)
            model = self.fit(rows_of(split.x, labelled), labels, seed)
            predictions = checked_predictions(self.predict, model, split.test_x)
            scores.append(measured(self.metric, split.test_y, predictions))
            if number <= self.rounds:
                given = Round(
                    number, self.batch, round_seed(seed, number), split.x, labelled.copy(), labels,
                    model, self.predict,
                )  # fmt: skip
                labelled = np.concatenate([labelled, picked_rows(name, strategy, given)])
        return scores


def round_seed(seed: int, number: int) -> int:
    """The seed of a round: a hash, so that no two rounds of any runs share random numbers."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])
