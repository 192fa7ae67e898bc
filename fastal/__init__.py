"""fastal: the rows of an unlabelled pool most worth labelling, at the speed of memory."""

from typing import TYPE_CHECKING

from fastal.base.lazy import import_on_first_use
from fastal.version import __version__

if TYPE_CHECKING:
    from fastal import combine, diversity, report
    from fastal.base.errors import InvalidRows
    from fastal.distributed.shard_selection import merge_shards, read_shard
    from fastal.labelled.confident_learning import LabelQuality
    from fastal.labelled.label_quality import label_quality
    from fastal.labelled.temperature import fit_temperature
    from fastal.labelled.temperature_fit import TemperatureFit
    from fastal.ops import backend_reasons
    from fastal.ops.formulas import DrawsScores, Scores
    from fastal.picks.picks import Picks
    from fastal.scoring.head import Head
    from fastal.selection.selector import Selector
    from fastal.selection.stratified import StratifiedSelector
    from fastal.simulation.result import Simulation
    from fastal.simulation.round import Round
    from fastal.simulation.simulate import simulate
    from fastal.sources import open_pool
    from fastal.sources.draws import draws
    from fastal.sources.items import items
    from fastal.sources.predictions import predictions
    from fastal.uncertainty import score, select

__all__ = [
    "DrawsScores",
    "Head",
    "InvalidRows",
    "LabelQuality",
    "Picks",
    "Round",
    "Scores",
    "Selector",
    "Simulation",
    "StratifiedSelector",
    "TemperatureFit",
    "__version__",
    "backend_reasons",
    "combine",
    "diversity",
    "draws",
    "fit_temperature",
    "items",
    "label_quality",
    "merge_shards",
    "open_pool",
    "predictions",
    "read_shard",
    "report",
    "score",
    "select",
    "simulate",
]

import_on_first_use(
    __name__,
    {
        "fastal.base.errors": ["InvalidRows"],
        "fastal.distributed.shard_selection": ["merge_shards", "read_shard"],
        "fastal.labelled.temperature": ["fit_temperature"],
        "fastal.labelled.temperature_fit": ["TemperatureFit"],
        "fastal.labelled.confident_learning": ["LabelQuality"],
        "fastal.labelled.label_quality": ["label_quality"],
        "fastal.ops": ["backend_reasons"],
        "fastal.ops.formulas": ["DrawsScores", "Scores"],
        "fastal.picks.picks": ["Picks"],
        "fastal.scoring.head": ["Head"],
        "fastal.selection.selector": ["Selector"],
        "fastal.selection.stratified": ["StratifiedSelector"],
        "fastal.simulation.result": ["Simulation"],
        "fastal.simulation.round": ["Round"],
        "fastal.simulation.simulate": ["simulate"],
        "fastal.sources": ["open_pool"],
        "fastal.sources.draws": ["draws"],
        "fastal.sources.items": ["items"],
        "fastal.sources.predictions": ["predictions"],
        "fastal.uncertainty": ["score", "select"],
    },
    subpackages=["combine", "diversity", "report"],
)
