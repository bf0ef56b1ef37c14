"""Registration of two photographs: the mapping between their pixels, and its quality."""
