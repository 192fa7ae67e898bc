"""Runs a process within a time limit. Keeps its JSON records, even if the process fails."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

FAILURES_FOUND = 3  # the exit code of a process that ran to the end and reported failures


class Outcome(NamedTuple):
    """The printed records, a problem that no record reports or None, and all output."""

    records: list[dict[str, Any]]
    problem: str | None
    output: str


def run(command: Sequence[str], seconds: int, **variables: str) -> Outcome:
    """Runs a command with more environment variables. A line that begins with { is a record."""
    if seconds < 1:
        return Outcome([], "not started, no time was left", "")
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env=os.environ | variables, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return Outcome([], f"not started, {error}", "")
    problem = None
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # and the compilers that it may have started
        output, errors = process.communicate()
        problem = f"stopped after {seconds} s, unfinished"
    if problem is None and process.returncode not in (0, FAILURES_FOUND):
        last = errors.strip().splitlines()[-1:] or ["no message"]
        problem = f"{last[0][:300]} (exit code {process.returncode})"
    return Outcome(list(_records(output)), problem, output + errors)


def _records(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:  # the line was cut short
                yield {"failures": [f"an unreadable record: {line[:100]}"]}
