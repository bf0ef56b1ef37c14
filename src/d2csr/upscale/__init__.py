"""Upscale: image files in, enlarged image files out."""
