"""What the tests lean on: real programs, real agents, real sockets; no test lives here."""
