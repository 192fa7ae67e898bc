"""The notebook runs from the first cell to the last, in a kernel of its own."""

import re

import pytest

from tests.support.checkout import ROOT, environment

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("ipykernel")
nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

NOTEBOOK = ROOT / "examples" / "active_learning.ipynb"


def code_cells():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_is_kept_without_outputs():
    notebook, cells = code_cells()
    nbformat.validate(notebook)
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.full
def test_the_notebook_runs_and_its_picks_raise_the_accuracy(tmp_path):
    notebook, cells = code_cells()
    client = nbclient.NotebookClient(
        notebook, kernel_name="python3", timeout=120, resources={"metadata": {"path": tmp_path}}
    )
    client.execute(env=environment(OMP_NUM_THREADS="1"))
    outputs = [output for cell in cells for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    shown = [output.data for output in outputs if "data" in output]
    accuracies = [float(share) for share in re.findall(r"labels: ([\d.]+)%", printed)]
    assert len(accuracies) == 6 and accuracies[-1] > accuracies[0] + 5
    assert "accuracy from 20 to 180 labels, mean over 5 seeds" in printed
    assert sum("image/png" in data for data in shown) == 2  # the digits, the curves
    assert sum("<table" in data.get("text/html", "") for data in shown) == 1  # the picks
