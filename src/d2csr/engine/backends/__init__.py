"""Backends: what can run a bundle's graphs, one module each, and the table of them."""
