"""Registration: where each pixel of one photograph lies in the other, step by step."""
