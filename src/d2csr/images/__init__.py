"""Images: files to arrays and back, colour, resizing; no torch."""
