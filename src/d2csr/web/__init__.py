"""The page of `d2csr app`: photographs upscaled in the browser, on this machine."""
