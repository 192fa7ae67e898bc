"""Times the scores of fastal on this machine's CPUs against other libraries.

    .venv/bin/python -m benchmarks.cpu --results FILE
    .venv/bin/python -m benchmarks.cpu -k "float32 and native"

All arguments are passed to pytest.
"""

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    # Most cases are skipped. A line for each would hide the table.
    quiet = ["-q", "--no-header", "-Wignore", "--benchmark-enable", "--benchmark-quiet"]
    sys.exit(pytest.main([str(Path(__file__).parent), *quiet, *sys.argv[1:]]))
