"""`python -I -m secret_agent`: the agent in the foreground.  `secret-agent start` is what people
type.
"""

from secret_agent.daemon import main

raise SystemExit(main())
