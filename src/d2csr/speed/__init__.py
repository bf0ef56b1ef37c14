"""Speed: time and memory of models on this machine, and the limits of the machine."""
