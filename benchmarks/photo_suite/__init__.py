"""Parts of `photo_models.py`: its sets, its scores and its targets."""
