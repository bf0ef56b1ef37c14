"""Simulated zoom camera: wide and tele images of one scene, with their ground truth."""
