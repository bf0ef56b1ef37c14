"""Networks of the paper: the divergence tree, the convergence network and both together."""
