"""Policy: rules that turn (holder, action, secret, stage) into allow or deny with limits.  See
agent/POLICY.md.

Pure, but for load.py, which reads the file.
"""
