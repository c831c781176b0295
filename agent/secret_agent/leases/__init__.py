"""Leases: the table that knows them all, and the one place where a lease ends."""
