"""Checks of launches that no machine makes: races between programs, and where numbers stop being finite."""
