"""Evaluation: scores of systems on pairs, with intervals, differences and calibration."""
