"""`python -m fastal`."""

from fastal.cli import main

if __name__ == "__main__":
    main(prog_name="fastal")
