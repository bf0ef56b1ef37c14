"""Upscaling of image files."""
