"""The losses of the paper, Eq. 1 to 7 and 9, and of the systems that it is compared with."""
