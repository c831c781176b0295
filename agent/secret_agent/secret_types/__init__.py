"""Secret types: which fields a secret has, which of them may be shown, what is meant by default,
what can be made.
"""
