"""The command line. Results alone go to stdout, progress and messages to stderr.

Exit status: 0; 2 for bad usage or bad input, with one line that names the cause; 3 if files were
skipped, so that nobody takes part of a pool for the whole; 130 or 143 after SIGINT or SIGTERM.

The modules of this package import click alone. A command imports what it runs when it is run, so
that help, the version and wrong usage take no time.
"""

import click

from fastal.cli.batches import badge, typiclust
from fastal.cli.combine import combine
from fastal.cli.deduplicate import deduplicate
from fastal.cli.diversity import assign, cluster, core_set, outliers, represent
from fastal.cli.help import HELP_NAMES, Group
from fastal.cli.labelled import fit_temperature, label_quality
from fastal.cli.other_commands import convert, demo, info
from fastal.cli.report import report
from fastal.cli.uncertainty import score, select
from fastal.version import __version__


@click.group(cls=Group, context_settings=HELP_NAMES)
@click.version_option(__version__, prog_name="fastal")
def main() -> None:
    """Pick the rows of an unlabelled pool that are most worth labelling.

    Each command reads a POOL of predictions [rows, classes] or embeddings [rows, dimensions]. A
    POOL is a file (.npy, .npz, .safetensors, .pt, .parquet, .arrow, .h5, .zarr), a folder of files,
    a glob, a URL, a manifest, or several of these. Rows are numbered across files, in the order of
    the files' paths. A folder includes its subfolders. Names in a folder that begin with "." or
    "_" are ignored.

    Run `fastal COMMAND --help` for the options of a command and an example.
    """


for _command in (
    select,
    score,
    cluster,
    assign,
    outliers,
    represent,
    core_set,
    badge,
    typiclust,
    deduplicate,
    combine,
    fit_temperature,
    label_quality,
    report,
    convert,
    info,
    demo,
):
    main.add_command(_command)
