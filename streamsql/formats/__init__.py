"""Bytes to Arrow and back: one file a format (`format` says what each owes)."""
