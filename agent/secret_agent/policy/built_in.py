"""The policy that holds where no policy.toml is: the user's own processes, as ssh-agent has it,
and nobody else.
"""

from secret_agent.model import Limits
from secret_agent.policy.rules import Policy, Rule

MOST_S = 3600  # one hour; what a longer need does is ask again

BUILT_IN = Policy(
    rules=(
        Rule(
            id="builtin-own-processes",
            effect="allow",
            secrets=("**",),
            actions=("read", "write", "list", "rotate"),
            providers=("store",),
            limits=Limits(ttl_s=MOST_S),
        ),
        Rule(
            id="builtin-own-control",
            effect="allow",
            actions=("revoke", "delegate", "admin"),
            limits=Limits(ttl_s=MOST_S),
        ),
    ),
    source="built-in",
)

CONTROL = BUILT_IN.rules[1]
"""Holds beside every policy of the user's own, which may deny over it: a policy about secrets that
forgot `admin`
must not lock its own author out of `lock` and `stop`."""

NOTHING = Policy(rules=(CONTROL,), source="none: the policy file is broken")
"""What holds when the first policy file that is found is broken: no secret for anybody."""
