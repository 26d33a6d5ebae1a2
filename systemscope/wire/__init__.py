"""Byte-level forms that both writers and readers of a format need."""
