"""Faults while commands run: kills, signals, too little memory, changing files, many processes."""
