"""The server: sockets, connections and handlers.  The only part of the agent that speaks the
wire.
"""
