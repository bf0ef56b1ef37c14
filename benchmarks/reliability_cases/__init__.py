"""Running commands disturbed: kills, signals, too little memory, changing files, many processes."""
