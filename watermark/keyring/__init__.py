"""Keys in use: their labels, files and lists, and the stores their secrets come from."""
