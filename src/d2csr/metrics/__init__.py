"""Metrics of an SR image against its HR image, in float64 with numpy; no torch."""
