"""What every room stands on: arrays, errors, checks of arguments, groups, the reducer."""
