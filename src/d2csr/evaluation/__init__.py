"""Scores of systems on pairs: tables, intervals, paired differences, calibration; no torch."""
