"""Training: from a recipe and pairs to an exported model."""
