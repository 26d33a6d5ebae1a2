"""Output opened in the viewers people use, and read back by readers that others wrote."""
