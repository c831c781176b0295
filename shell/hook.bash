# shellcheck shell=bash
# secret-agent in bash (3.2 or later): source this, or eval "$(secret-agent shell-init bash)".
#
# It attaches this shell to the user's agent, and before each prompt it reads the line that the
# agent keeps beside its socket: "STATE SESSION-ENDS LEASE-ENDS PID", ends in Unix seconds or 0.
# Rules: no process starts before a prompt unless the agent was replaced or a directory's leases
# end.  Of what the line says only words of ours are shown.  PROMPT_COMMAND, traps, $?, $! and the
# options of the shell stay the user's.  It holds no value, makes no alias, waits for nobody.

__secret_agent_soon_s=60 # a lease is about to end so many seconds before its end
__secret_agent_segment=''
__secret_agent_leases=${SECRET_AGENT_LEASES-}
__secret_agent_outer=$__secret_agent_leases # leases of the shell around this one: its to end

__secret_agent_quietly() { command secret-agent "$@" </dev/null >/dev/null 2>&1 || :; }

__secret_agent_read() { # the line beside the socket $1, checked, into _state, _ends and _pid
  local file=${1%/*}/prompt state='' locks='' ends='' pid='' _
  __secret_agent_state='' __secret_agent_ends=0 __secret_agent_pid=''
  [[ -f $file ]] || return 0 # not a FIFO, which would hold the prompt up
  { IFS=' ' read -r -n 128 state locks ends pid _ || :; } 2>/dev/null <"$file" || return 0
  [[ $pid =~ ^[1-9][0-9]{0,9}$ ]] && kill -0 "$pid" 2>/dev/null || return 0
  case $state in locked | unlocked) ;; *) return 0 ;; esac
  __secret_agent_state=$state __secret_agent_pid=$pid
  for ends in "$locks" "$ends"; do
    [[ $ends =~ ^[1-9][0-9]{0,11}$ ]] || continue
    ((__secret_agent_ends != 0 && __secret_agent_ends < ends)) || __secret_agent_ends=$ends
  done
}

__secret_agent_attach() { # export where a living agent is and register this shell with it
  local socket run=${XDG_RUNTIME_DIR:-/run/user/$UID}/secret-agent
  local known=${SECRET_AGENT_HOME:-$run}/agent.sock
  [[ -O $known ]] || known='' # of somebody else, or not there
  for socket in "${SECRET_AGENT_SOCK-}" "$known"; do
    [[ -S $socket ]] || continue
    __secret_agent_read "$socket"
    # A scoped socket has no line beside it; an agent with one must be alive, and ours.
    [[ -n $__secret_agent_state && -O $socket || ! -e ${socket%/*}/prompt ]] || continue
    export SECRET_AGENT_SOCK=$socket
    [[ -z $__secret_agent_pid ]] || export SECRET_AGENT_PID=$__secret_agent_pid
    # In the background: neither the shell's start nor a reader of its output waits for it.
    { exec secret-agent register --pid $$ </dev/null >/dev/null 2>&1 & } 2>/dev/null
    disown $! 2>/dev/null || :
    return 0
  done
  unset -v SECRET_AGENT_SOCK SECRET_AGENT_PID # of an agent that is gone: a tmux keeps them
  [[ $- == *i* && ${SECRET_AGENT_AUTOSTART-1} != 0 ]] || return 0
  eval "$(command secret-agent start --shell bash --pid $$ </dev/null)" || :
}

__secret_agent_follow() { # what `use secret-agent --values` loaded ends with its leases
  local now=${SECRET_AGENT_LEASES-} old=$__secret_agent_leases before=$1
  local form='^([1-9][0-9]{0,11})( [A-Za-z0-9_-]+)+$' # when the first ends, and their ids
  __secret_agent_leases=$now
  if [[ $now != "$old" && $old != "$__secret_agent_outer" && $old =~ $form ]]; then
    # shellcheck disable=SC2086  # words, checked above
    (set -- $old && shift && exec secret-agent revoke "$@" </dev/null >/dev/null 2>&1 &)
  fi
  if [[ $__secret_agent_state != unlocked ]]; then
    [[ -n $now ]] || return 0
  elif [[ $before != locked || -z ${DIRENV_DIR-} ]]; then
    [[ $now =~ $form ]] && ((${EPOCHSECONDS-0} >= BASH_REMATCH[1])) || return 0
  fi
  # Without its watches direnv loads the directory anew; locked, that fails, and says so.
  unset -v DIRENV_WATCHES
  ! declare -F _direnv_hook >/dev/null || _direnv_hook || :
  __secret_agent_leases=${SECRET_AGENT_LEASES-}
}

__secret_agent_at_prompt() {
  local status=$? before=$__secret_agent_segment
  __secret_agent_segment='' __secret_agent_state=''
  [[ -z ${SECRET_AGENT_SOCK-} ]] || __secret_agent_read "$SECRET_AGENT_SOCK"
  if [[ -n $__secret_agent_state ]]; then
    __secret_agent_segment=$__secret_agent_state
    local soon=$((${EPOCHSECONDS-0} + __secret_agent_soon_s))
    ((__secret_agent_ends == 0 || soon < __secret_agent_ends)) || __secret_agent_segment=ending
    if [[ $__secret_agent_pid != "${SECRET_AGENT_PID-}" ]]; then # another agent, which knows us not
      export SECRET_AGENT_PID=$__secret_agent_pid
      __secret_agent_quietly register --pid $$
    fi
  fi
  __secret_agent_follow "$before"
  return "$status"
}

__secret_agent_prompt() { # for PS1; ${__secret_agent_segment} says the same without a subshell
  printf '%s' "${__secret_agent_segment:+$__secret_agent_segment }"
}

__secret_agent_at_exit() { # a courtesy: the kernel tells the agent of the shell's end anyway
  local status=$?
  [[ ! -S ${SECRET_AGENT_SOCK-} ]] || __secret_agent_quietly unregister --pid $$
  return "$status"
}

__secret_agent_complete() { # the first Tab loads the real completion; 124 asks bash to try again
  complete -r secret-agent
  eval "$(command secret-agent completions bash 2>/dev/null)" && return 124
}

__secret_agent_install() { # into prompt, exit and completion, after what is there; once
  local hook=__secret_agent_at_prompt trap_line exit_trap=()
  if [[ "${PROMPT_COMMAND[*]-}" != *"$hook"* ]]; then
    # A bash older than 5.1 runs the first element of an array alone.
    PROMPT_COMMAND[0]=${PROMPT_COMMAND[0]:+${PROMPT_COMMAND[0]}$'\n'}$hook
  fi
  trap_line=$(trap -p EXIT)
  if [[ $trap_line != *__secret_agent_at_exit* ]]; then
    eval "exit_trap=($trap_line)" # trap -- 'COMMANDS' EXIT, as bash quotes it
    # shellcheck disable=SC2064  # the text of the user's trap is wanted now
    trap "${exit_trap[2]:+${exit_trap[2]}$'\n'}__secret_agent_at_exit" EXIT
  fi
  complete -F __secret_agent_complete secret-agent
}

__secret_agent_attach
[[ $- != *i* ]] || __secret_agent_install
