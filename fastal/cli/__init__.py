"""The command line. Results alone go to stdout, progress and messages to stderr.

Exit status: 0; 2 for bad usage or bad input, with one line that says what was wrong; 3 where files
were skipped, so that nobody takes part of a pool for the whole; 130 or 143 after SIGINT or SIGTERM.
"""

import click

import fastal
from fastal.cli.diversity import cluster, core_set, outliers, represent
from fastal.cli.tools import convert, demo, info
from fastal.cli.uncertainty import score, select


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fastal.__version__, package_name="fastal")
def main() -> None:
    """Pick the rows of an unlabelled pool that are most worth labelling.

    A POOL is a file of predictions [rows, classes] or embeddings [rows, dimensions] (.npy, .npz,
    .safetensors, .pt, .parquet, .arrow, .h5, .zarr), a folder of them, a glob, a URL, a manifest,
    or several of these; rows are numbered across files in the order of their paths. A folder is
    searched with its subfolders, except for names that begin with "." or "_".
    """


for _command in (select, score, cluster, outliers, represent, core_set, convert, info, demo):
    main.add_command(_command)
