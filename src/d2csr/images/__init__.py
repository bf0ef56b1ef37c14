"""Images: reading, writing, metadata, resizing; no torch."""
