"""What happens outside the agent and ends leases, as events."""
