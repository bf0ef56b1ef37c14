"""Foundations of every package: errors, configuration, file schemas; no pixels, no torch."""
