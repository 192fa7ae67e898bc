"""Picks: the result of a selection, how it is shown, and the files of it."""
