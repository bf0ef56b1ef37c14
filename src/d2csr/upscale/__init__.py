"""Upscale: picture files in, enlarged picture files out."""
