"""Speed: what models take in time and memory on this machine, beside what it can do at best."""
