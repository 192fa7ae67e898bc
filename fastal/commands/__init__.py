"""What each command of the command line does, from pool to files."""
