"""What all rooms use: arrays, errors, checks of arguments, groups, the base of reducers."""
