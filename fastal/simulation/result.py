"""The result of a simulation."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastal.output.atomic import written_whole
from fastal.output.csv_lines import csv_lines
from fastal.output.packages import pandas_for
from fastal.simulation import picture
from fastal.simulation.curves_file import read_curves
from fastal.simulation.summary import StrategySummary, as_text, summarised
from fastal.sources import PathLike


@dataclass(frozen=True, eq=False, repr=False)
class Simulation:
    """The learning curves of strategies: the score of the model after each round.

    `print(simulation)` shows the summary as a table.

    Attributes:
        strategies: the names of the S strategies.
        seeds: the R seeds. All strategies of a seed begin with the same labelled rows.
        n_labelled: [rounds + 1] int64, how many rows have a label: first the initial ones.
        scores: [S, R, rounds + 1] float64, the scores of the models on the test data.
        metric: the name of the metric.

    Example:
        >>> import fastal, numpy as np
        >>> from pathlib import Path
        >>> found = fastal.Simulation(
        ...     strategies=("margin", "random"), seeds=(0, 1), n_labelled=np.array([10, 20, 30]),
        ...     scores=np.array([[[0.5, 0.8, 0.9], [0.6, 0.8, 0.9]],
        ...                      [[0.5, 0.6, 0.7], [0.6, 0.7, 0.7]]]),
        ...     metric="accuracy",
        ... )
        >>> found
        accuracy from 10 to 30 labels, mean over 2 seeds ± 95% confidence
                with 30 labels   minus random     mean of curve    minus random
        margin  0.9000 ± 0.0000  0.2000 ± 0.0000  0.7625 ± 0.1588  0.1250 ± 0.3177
        random  0.7000 ± 0.0000                   0.6375 ± 0.4765
        >>> round(found.summary()[0].final_gain.mean, 3)
        0.2
        >>> found.save("curves.csv")
        >>> Path("curves.csv").read_text().split()[:2]
        ['strategy,seed,round,n_labelled,score', 'margin,0,0,10,0.5']
    """

    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    n_labelled: NDArray[np.int64]
    scores: NDArray[np.float64]
    metric: str

    def __repr__(self) -> str:
        first, last = map(int, self.n_labelled[[0, -1]])
        n_seeds = len(self.seeds)
        over = f"mean over {n_seeds} seeds ± 95% confidence" if n_seeds > 1 else "one seed"
        title = f"{self.metric} from {first:,} to {last:,} labels, {over}"
        return f"{title}\n{as_text(self.summary(), last)}"

    def summary(self) -> list[StrategySummary]:
        """What each strategy is worth, in the order of the strategies; see `StrategySummary`.

        If one of the strategies is named "random", the others are compared with it.
        """
        return summarised(self.strategies, self.n_labelled, self.scores)

    def only(self, *strategies: str) -> "Simulation":
        """The curves of some strategies, in this order.

        Raises:
            ValueError: none is named, one is named twice, or there is no such strategy.

        Example:
            >>> import fastal, numpy as np
            >>> found = fastal.Simulation(
            ...     ("a", "b", "c"), (0,), np.array([10, 20]), np.zeros((3, 1, 2)), "accuracy"
            ... )
            >>> found.only("c", "a").strategies
            ('c', 'a')
        """
        if not strategies or len(set(strategies)) < len(strategies):
            raise ValueError(f"strategies: wanted each name once, got {list(strategies)}")
        for name in strategies:
            if name not in self.strategies:
                raise ValueError(
                    f"strategies: wanted some of {', '.join(self.strategies)}, got {name!r}"
                )
        places = [self.strategies.index(name) for name in strategies]
        return replace(self, strategies=strategies, scores=self.scores[places])

    def to_pandas(self) -> Any:
        """A pandas DataFrame with the columns that `save` writes.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return pandas_for("to_pandas").DataFrame(self._table())

    def save(self, path: PathLike) -> None:
        """Writes the curves to a .csv file, which appears whole or not at all.

        There is a line for each strategy, seed and round, with the columns strategy, seed, round,
        n_labelled and score. Round 0 is before the first pick. Scores read back to the same bits.

        Raises:
            ValueError, OSError: the path has another suffix, or cannot be written.
        """
        if Path(path).suffix != ".csv":
            raise ValueError(f"path: wanted a .csv file, got {path}")
        table = self._table()
        with written_whole(Path(path)) as file:
            file.write((",".join(table) + "\n").encode())
            file.writelines(csv_lines(*table.values()))

    @classmethod
    def load(cls, *paths: PathLike, metric: str = "score") -> "Simulation":
        """Reads .csv files that `save` wrote. Several files are joined.

        Runs do not depend on each other. So processes, machines or GPUs can share a simulation,
        if each gets different seeds or different strategies.

        Args:
            paths: the files; together they have every seed of every strategy, and each once.
            metric: the name of the metric, which the files do not hold.

        Raises:
            ValueError: a file does not hold curves, or a run is missing or there twice; the message
                names the file, and the line where there is one.
            OSError: one cannot be read.

        Example:
            >>> import fastal, numpy as np
            >>> fastal.Simulation(
            ...     ("margin",), (0,), np.array([10, 20]), np.array([[[0.5, 0.8]]]), "accuracy"
            ... ).save("curves.csv")
            >>> fastal.Simulation.load("curves.csv", metric="accuracy").scores
            array([[[0.5, 0.8]]])
        """
        if not paths:
            raise ValueError("paths: wanted a .csv file or several, got none")
        return cls(*read_curves([Path(path) for path in paths]), metric)

    def plot(self, to: Any) -> None:
        """Draws the curves: a line for the mean over the seeds, and a band around it.

        The band is the 95% confidence interval of the mean, as in `summary`. If there is one seed,
        there is no band.

        Args:
            to: an image file, such as a .png, .svg or .pdf file, which appears whole or not at all;
                or the axes of matplotlib to draw on.

        Raises:
            ModuleNotFoundError: matplotlib is not installed (extra `demo`).
            ValueError, OSError: the path has another suffix, or cannot be written.
        """
        curves = picture.Curves(self.strategies, self.n_labelled, self.scores, self.metric)
        if hasattr(to, "fill_between"):
            picture.draw(to, curves)
        else:
            picture.write(Path(to), curves)

    def _table(self) -> dict[str, NDArray[Any]]:
        """The columns, with a row for each strategy, seed and round, in this order."""
        n_strategies, n_seeds, n_rounds = self.scores.shape
        return {
            "strategy": np.repeat(np.array(self.strategies, object), n_seeds * n_rounds),
            "seed": np.tile(np.repeat(np.array(self.seeds, np.uint64), n_rounds), n_strategies),
            "round": np.tile(np.arange(n_rounds), n_strategies * n_seeds),
            "n_labelled": np.tile(self.n_labelled, n_strategies * n_seeds),
            "score": self.scores.ravel(),
        }
