# secret-agent in zsh (5.0 or later): source this, or eval "$(secret-agent shell-init zsh)".
#
# It attaches this shell to the user's agent, and before each prompt it reads the line that the
# agent keeps beside its socket: "STATE SESSION-ENDS LEASE-ENDS PID", ends in Unix seconds or 0.
# Rules: no process starts before a prompt unless the agent was replaced or a directory's leases
# end.  Of what the line says only words of ours are shown.  The user's hooks, traps, $? and options
# stay as they are.  It holds no value, makes no alias, waits for nobody.

zmodload -F zsh/datetime p:EPOCHSECONDS 2>/dev/null || :
typeset -gi __secret_agent_soon_s=60 # a lease is about to end so many seconds before its end
typeset -gi __secret_agent_ends=0
typeset -g __secret_agent_segment= __secret_agent_state= __secret_agent_pid=
typeset -g __secret_agent_leases=${SECRET_AGENT_LEASES-}
typeset -g __secret_agent_outer=$__secret_agent_leases # of the shell around this one: its to end

__secret_agent_quietly() { command secret-agent "$@" </dev/null >/dev/null 2>&1 || :; }

__secret_agent_read() { # the line beside the socket $1, checked, into _state, _ends and _pid
  emulate -L zsh
  local file=${1:h}/prompt state= locks= ends= pid= _rest=
  __secret_agent_state= __secret_agent_ends=0 __secret_agent_pid=
  [[ -f $file ]] || return 0 # not a FIFO, which would hold the prompt up
  { IFS=' ' read -r state locks ends pid _rest || : } 2>/dev/null <$file || return 0
  [[ $pid == <1-> && $pid != 0* && ${#pid} -le 10 ]] || return 0
  kill -0 $pid 2>/dev/null || return 0
  [[ $state == (locked|unlocked) ]] || return 0
  __secret_agent_state=$state __secret_agent_pid=$pid
  for ends in "$locks" "$ends"; do
    [[ $ends == <1-> && $ends != 0* && ${#ends} -le 12 ]] || continue
    (( __secret_agent_ends != 0 && __secret_agent_ends < ends )) || __secret_agent_ends=$ends
  done
}

__secret_agent_attach() { # export where a living agent is and register this shell with it
  emulate -L zsh
  local socket run=${XDG_RUNTIME_DIR:-/run/user/$UID}/secret-agent
  local known=${SECRET_AGENT_HOME:-$run}/agent.sock
  [[ -O $known ]] || known= # of somebody else, or not there
  for socket in "${SECRET_AGENT_SOCK-}" "$known"; do
    [[ -S $socket ]] || continue
    __secret_agent_read $socket
    # A scoped socket has no line beside it; an agent with one must be alive, and ours.
    [[ -n $__secret_agent_state && -O $socket || ! -e ${socket:h}/prompt ]] || continue
    export SECRET_AGENT_SOCK=$socket
    [[ -z $__secret_agent_pid ]] || export SECRET_AGENT_PID=$__secret_agent_pid
    # In the background: the start of a shell need not wait for it.
    __secret_agent_quietly register --pid $$ >/dev/null 2>&1 &!
    return 0
  done
  unset SECRET_AGENT_SOCK SECRET_AGENT_PID # of an agent that is gone: a tmux keeps them
  [[ -o interactive && ${SECRET_AGENT_AUTOSTART-1} != 0 ]] || return 0
  eval "$(command secret-agent start --shell zsh --pid $$ </dev/null)" || :
}

__secret_agent_follow() { # what `use secret-agent --values` loaded ends with its leases
  local now=${SECRET_AGENT_LEASES-} old=$__secret_agent_leases before=$1
  local form='^[1-9][0-9]{0,11}( [A-Za-z0-9_-]+)+$' # when the first ends, and their ids
  __secret_agent_leases=$now
  if [[ $now != $old && $old != $__secret_agent_outer && $old =~ $form ]]; then
    __secret_agent_quietly revoke ${${(s: :)old}[2,-1]} >/dev/null 2>&1 &!
  fi
  if [[ $__secret_agent_state != unlocked ]]; then
    [[ -n $now ]] || return 0
  elif [[ $before != locked || -z ${DIRENV_DIR-} ]]; then
    [[ $now =~ $form ]] && (( ${EPOCHSECONDS:-0} >= ${now%% *} )) || return 0
  fi
  # Without its watches direnv loads the directory anew; locked, that fails, and says so.
  unset DIRENV_WATCHES
  (( ! $+functions[_direnv_hook] )) || _direnv_hook || :
  __secret_agent_leases=${SECRET_AGENT_LEASES-}
}

__secret_agent_at_prompt() {
  emulate -L zsh
  local before=$__secret_agent_segment
  __secret_agent_segment= __secret_agent_state=
  [[ -z ${SECRET_AGENT_SOCK-} ]] || __secret_agent_read $SECRET_AGENT_SOCK
  if [[ -n $__secret_agent_state ]]; then
    __secret_agent_segment=$__secret_agent_state
    local -i soon=$(( ${EPOCHSECONDS:-0} + __secret_agent_soon_s ))
    (( __secret_agent_ends == 0 || soon < __secret_agent_ends )) || __secret_agent_segment=ending
    if [[ $__secret_agent_pid != ${SECRET_AGENT_PID-} ]]; then # another agent, which knows us not
      export SECRET_AGENT_PID=$__secret_agent_pid
      __secret_agent_quietly register --pid $$
    fi
  fi
  __secret_agent_follow "$before"
}

__secret_agent_prompt() { # for PROMPT; ${__secret_agent_segment} says the same without a subshell
  print -rn -- ${__secret_agent_segment:+"$__secret_agent_segment "}
}

__secret_agent_at_exit() { # a courtesy: the kernel tells the agent of the shell's end anyway
  [[ ! -S ${SECRET_AGENT_SOCK-} ]] || __secret_agent_quietly unregister --pid $$
}

_secret_agent_complete() { # the first Tab loads the real completion
  eval "$(command secret-agent completions zsh 2>/dev/null)"
  (( ! $+_comps[secret-agent] )) || [[ $_comps[secret-agent] == $0 ]] || $_comps[secret-agent] "$@"
}

__secret_agent_install() { # into prompt, exit and completion, after what is there; once
  emulate -L zsh
  typeset -ga precmd_functions zshexit_functions
  local hook=__secret_agent_at_prompt
  (( ${precmd_functions[(Ie)$hook]} )) || precmd_functions+=($hook)
  hook=__secret_agent_at_exit
  (( ${zshexit_functions[(Ie)$hook]} )) || zshexit_functions+=($hook)
  (( ! $+functions[compdef] )) || compdef _secret_agent_complete secret-agent
}

__secret_agent_attach
[[ ! -o interactive ]] || __secret_agent_install
