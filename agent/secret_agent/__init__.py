"""The agent: the daemon that holds the session, decides, leases, audits and revokes.

Layout, from the top: `daemon` composes; `server` speaks the wire; `broker` is the one way a value
leaves; `session`, `leases`,
`policy`, `scopes`, `audit`, `store`, `holder` and `triggers` know nothing of the wire or of each
other's insides.
The wire contract itself is the client's package, secret_agent_client.
"""
