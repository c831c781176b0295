"""`python -m secret_agent_client`: the same as the command `secret-agent`."""

from secret_agent_client.fast import run

run()
