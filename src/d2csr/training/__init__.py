"""Training: a recipe and pairs in; a run folder with checkpoints, log and bundle out."""
