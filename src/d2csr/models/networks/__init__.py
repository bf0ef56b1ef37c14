"""The networks that D2C-SR is compared with, each as its public code computes it."""
