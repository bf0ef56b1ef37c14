"""Export: a trained network to a bundle that the engine runs without torch."""
