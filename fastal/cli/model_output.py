"""Options that say what a pool of predictions holds."""

import click

from fastal.base.argument_values import CLASS_KINDS, KINDS
from fastal.cli.help import pool_option
from fastal.cli.options import TEMPERATURE, with_options

CLASS_KIND = pool_option(
    "--kind",
    type=click.Choice(CLASS_KINDS),
    default="logits",
    show_default=True,
    help="What the pool holds: logits, probabilities or log-probabilities.",
)
OUTPUT = with_options(
    pool_option(
        "--kind",
        type=click.Choice(KINDS),
        default="logits",
        show_default=True,
        help="What the pool holds: logits, probabilities or log-probabilities of the classes; or, "
        "for labels that are independent, logits or probabilities of each.",
    ),
    pool_option(
        "--aggregate",
        metavar="HOW",
        help="For items of several rows, such as tokens, pixels or labels: how their scores become "
        "one. mean, max, sum, least, or top10 for the mean of the 10 highest.",
    ),
    pool_option(
        "--ragged",
        is_flag=True,
        help="Each row of Parquet or Arrow files is an item of several rows: a list of lists.",
    ),
    pool_option(
        "--lengths",
        type=click.Path(),
        help="For items whose rows lie one after the other: .npy file with each item's number of "
        "rows.",
    ),
    pool_option(
        "--offsets",
        type=click.Path(),
        help="Instead of --lengths: .npy file with each item's first row, and at the end the "
        "number of rows.",
    ),
    pool_option(
        "--mask",
        type=click.Path(),
        help="With --lengths or --offsets: .npy file of bools, true for rows that count.",
    ),
    pool_option(
        "--class-axis",
        type=int,
        default=-1,
        help="Axis of the classes, counting the rows as axis 0: 1 for images of planes. Default: "
        "the last.",
    ),
    pool_option(
        "--draws-axis",
        type=int,
        help="Axis of the draws, counting the rows as axis 0: the passes of a network with "
        "dropout, or the members of an ensemble.",
    ),
    pool_option(
        "--ensemble",
        is_flag=True,
        help="Each POOL is one draw of the same rows: the predictions of one member of an "
        "ensemble.",
    ),
    TEMPERATURE,
)
