"""Parts of `divergence.py`: variants, their sizes, and what is measured on their results."""
