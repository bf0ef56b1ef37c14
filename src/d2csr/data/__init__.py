"""Pairs of images: found in folders, checked, imported, and cut into training crops."""
