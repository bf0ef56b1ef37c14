"""Measures of an SR picture against its HR: numpy in float64, no torch."""
