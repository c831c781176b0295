# secret-agent in fish (3.1 or later): secret-agent shell-init fish | source
#
# It attaches this shell to the user's agent, and before each prompt it reads the line that the
# agent keeps beside its socket: "STATE SESSION-ENDS LEASE-ENDS PID", ends in Unix seconds or 0.
# Rules: no process starts before a prompt unless the agent was replaced or a directory's leases
# end.  Of what the line says only words of ours are shown.  The user's prompt and handlers stay as
# they are.  It holds no value, makes no alias, waits for nobody.

set -g __secret_agent_soon_s 60 # a lease is about to end so many seconds before its end
set -g __secret_agent_segment ''
set -g __secret_agent_leases "$SECRET_AGENT_LEASES"
set -g __secret_agent_outer $__secret_agent_leases # of the shell around this one: its to end

function __secret_agent_file --argument-names socket
    string replace --regex '[^/]*$' prompt -- $socket
end

function __secret_agent_read --argument-names socket # the line, checked, into _state, _ends, _pid
    set -g __secret_agent_state ''; set -g __secret_agent_pid ''; set -g __secret_agent_ends 0
    set -l file (__secret_agent_file $socket)
    test -f "$file"; or return 0 # not a FIFO, which would hold the prompt up
    read --nchars 128 --delimiter ' ' --local state locks ends pid _rest 2>/dev/null <$file
    string match --quiet --regex '^[1-9][0-9]{0,9}$' -- $pid; or return 0
    # fish has no kill of its own; where there is no /proc the line is believed.
    test -d /proc/$pid; or not test -d /proc/self; or return 0
    contains -- "$state" locked unlocked; or return 0
    set -g __secret_agent_state $state; set -g __secret_agent_pid $pid
    for end in $locks $ends
        string match --quiet --regex '^[1-9][0-9]{0,11}$' -- $end; or continue
        test $__secret_agent_ends -ne 0 -a $__secret_agent_ends -lt $end
        or set -g __secret_agent_ends $end
    end
end

function __secret_agent_now # Unix seconds without a process: a file's time and its age (fish 3.6)
    set -l file (__secret_agent_file $SECRET_AGENT_SOCK)
    set -l times (path mtime -- $file 2>/dev/null) (path mtime -R -- $file 2>/dev/null) 0 0
    math $times[1] + $times[2] # 0 in an older fish, in which nothing is ever about to end
end

function __secret_agent_attach # export where a living agent is and register this shell with it
    set -l known $XDG_RUNTIME_DIR/secret-agent/agent.sock
    set -q SECRET_AGENT_HOME; and set known $SECRET_AGENT_HOME/agent.sock
    test -O "$known"; or set known '' # of somebody else, or not there
    for socket in $SECRET_AGENT_SOCK $known
        test -S "$socket"; or continue
        __secret_agent_read $socket
        # A scoped socket has no line beside it; an agent with one must be alive, and ours.
        test -n "$__secret_agent_state" -a -O $socket
        or not test -e (__secret_agent_file $socket); or continue
        set -gx SECRET_AGENT_SOCK $socket
        test -z "$__secret_agent_pid"; or set -gx SECRET_AGENT_PID $__secret_agent_pid
        # In the background: the start of a shell need not wait for it.
        command secret-agent register --pid $fish_pid </dev/null >/dev/null 2>&1 &
        disown $last_pid 2>/dev/null
        return 0
    end
    set -e SECRET_AGENT_SOCK; set -e SECRET_AGENT_PID # of one that is gone: a tmux keeps them
    status is-interactive; and test "$SECRET_AGENT_AUTOSTART" != 0; or return 0
    command secret-agent start --shell fish --pid $fish_pid </dev/null | source
end

function __secret_agent_follow --argument-names before # what `use secret-agent --values` loaded
    set -l form '^[1-9][0-9]{0,11}( [A-Za-z0-9_-]+)+$' # when the first lease ends, and their ids
    set -l old $__secret_agent_leases
    set -l now "$SECRET_AGENT_LEASES"
    set -g __secret_agent_leases $now
    if test "$old" != "$now" -a "$old" != "$__secret_agent_outer"
        and string match --quiet --regex $form -- $old
        command secret-agent revoke (string split ' ' -- $old)[2..] </dev/null >/dev/null 2>&1 &
        disown $last_pid 2>/dev/null
    end
    if test "$__secret_agent_state" != unlocked
        test -n "$now"; or return 0
    else if test "$before" != locked -o -z "$DIRENV_DIR"
        string match --quiet --regex $form -- $now
        and test (__secret_agent_now) -ge (string split ' ' -- $now)[1]; or return 0
    end
    # Without its watches direnv loads the directory anew; locked, that fails, and says so.
    set -e DIRENV_WATCHES
    functions --query __direnv_export_eval; and __direnv_export_eval
    set -g __secret_agent_leases "$SECRET_AGENT_LEASES"
end

function __secret_agent_at_prompt --on-event fish_prompt
    set -l before $__secret_agent_segment
    set -g __secret_agent_segment ''; set -g __secret_agent_state ''
    test -z "$SECRET_AGENT_SOCK"; or __secret_agent_read $SECRET_AGENT_SOCK
    if test -n "$__secret_agent_state"
        set -g __secret_agent_segment $__secret_agent_state
        if test $__secret_agent_ends -ne 0
            and test (math $__secret_agent_ends - (__secret_agent_now)) -le $__secret_agent_soon_s
            set -g __secret_agent_segment ending
        end
        if test "$__secret_agent_pid" != "$SECRET_AGENT_PID" # another agent, which knows us not
            set -gx SECRET_AGENT_PID $__secret_agent_pid
            command secret-agent register --pid $fish_pid </dev/null >/dev/null 2>&1
        end
    end
    __secret_agent_follow "$before"
end

function __secret_agent_prompt # for fish_prompt or fish_right_prompt
    test -z "$__secret_agent_segment"; or echo -n "$__secret_agent_segment "
end

function __secret_agent_at_exit --on-event fish_exit # a courtesy: the kernel tells the agent anyway
    status is-interactive; and test -S "$SECRET_AGENT_SOCK"; or return 0
    command secret-agent unregister --pid $fish_pid </dev/null >/dev/null 2>&1
end

function __secret_agent_complete # the first Tab loads the real completion
    complete --erase --command secret-agent
    command secret-agent completions fish 2>/dev/null | source
    complete --do-complete (commandline --current-process --cut-at-cursor)
end

__secret_agent_attach
complete --command secret-agent --no-files --arguments '(__secret_agent_complete)'
