"""Suites: many trainings compared, systems by seeds by sets of pairs, from one file."""
