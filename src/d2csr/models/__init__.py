"""Networks: D2C-SR, its divergence tree and convergence network, and those it is compared with."""
