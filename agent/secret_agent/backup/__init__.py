"""Encrypted backups of the store, readable by the program `age`.  FORMAT.md in this folder."""
