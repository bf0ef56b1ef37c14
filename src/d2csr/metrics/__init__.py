"""Measures of an SR image against its HR: numpy in float64, no torch."""
