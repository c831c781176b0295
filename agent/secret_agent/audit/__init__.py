"""The audit log: one hash-chained JSON line a decision, on disk before its value leaves.  See
agent/AUDIT.md.
"""
