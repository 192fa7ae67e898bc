"""Makes the environments of tools that are missing: `python -m benchmarks.peers.environments`.

Those of the adapters are what `scripts/test-adapters` makes. Each is the environment that runs
this, with the tool's own packages before it.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.peers.measure import ROOT
from benchmarks.peers.tasks import TOOLS

ADAPTERS = ROOT / "tests" / "adapters" / "requirements"
OTHERS = Path(__file__).parent / "requirements"


def main() -> None:
    for name in sorted({tool.environment for tool in TOOLS.values() if tool.environment}):
        folder = ROOT / ".venv-adapters" / name
        if (folder / "bin" / "python").exists():
            continue
        wanted = [path for path in (ADAPTERS / f"{name}.txt", OTHERS / f"{name}.txt")
                  if path.exists()]  # fmt: skip
        if not wanted:
            print(f"{name}: no file of requirements in {ADAPTERS} or {OTHERS}")
            continue
        print(f"{name}: {wanted[0].relative_to(ROOT)}")
        make(folder, wanted[0])


def make(folder: Path, requirements: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    (Path(where) / "base.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
         "--requirement", requirements], check=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
