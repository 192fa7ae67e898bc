"""The command line in a process of its own, and the rows of CSV that it writes."""

import csv
import subprocess
import sys
from io import StringIO

from tests.support.checkout import environment

TERMINAL = environment(TERM="xterm")


def run_process(*arguments, **options):
    """As a user runs it, for what only a process of its own can show."""
    command = [sys.executable, "-m", "fastal", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=TERMINAL, **options)


def run_shell(arguments):
    """As a user types it, redirections and pipes included."""
    command = f"{sys.executable} -m fastal {arguments}"
    return subprocess.run(command, shell=True, capture_output=True, text=True, env=TERMINAL)


def rows_of(text):
    return list(csv.DictReader(StringIO(text)))
