"""Times fastal on this machine's CPUs, against what users have; arguments go to pytest.

.venv/bin/python -m benchmarks.cpu --results FILE
.venv/bin/python -m benchmarks.cpu -k "float32 and native"
"""

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    # A test a line would bury the table, of which most is skipped.
    quiet = ["-q", "--no-header", "-Wignore", "--benchmark-enable", "--benchmark-quiet"]
    sys.exit(pytest.main([str(Path(__file__).parent), *quiet, *sys.argv[1:]]))
