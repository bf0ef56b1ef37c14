"""The losses of the paper, Eq. 1 to 7 and 9, as pure functions."""
