"""Facts every room shares: errors, configuration, schemas; no pixels, no torch."""
