"""Export of a trained network as a bundle that the engine runs without torch."""
