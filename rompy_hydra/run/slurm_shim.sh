# ---- What runs the runs on the node: POSIX sh and nothing else (no Python, no network, nothing to read but what is said).
# rh_open → set-up lines → rh_point (for each run: start, watch, judge, try again, tell) → rh_close
# It tells into $rh_dir/task.K, which has one writer: lines "@TOKEN word N key=value …".  Times are seconds of the epoch.

rh_open() {
    unset CDPATH SLURM_EXPORT_ENV # srun would hand on nothing otherwise
    rh_over=' ' rh_tmp= rh_lanes=0 rh_ended= rh_why= rh_running= rh_worst=0 rh_sleeper=
    rh_task=${SLURM_ARRAY_TASK_ID:-0} rh_restart=${SLURM_RESTART_COUNT:-0} rh_job=${SLURM_JOB_ID:-$$}
    mkdir -p -- "$rh_dir" || exit 4
    exec 9>>"$rh_dir/task.$rh_task" || exit 4
    rh_base=$(date -u +%s.%N)
    case $rh_base in *.*N*) rh_base=${rh_base%%.*}.00 ;; esac
    rh_fraction=${rh_base#*.}00
    rh_base=$((${rh_base%%.*} * 100 + 1${rh_fraction%"${rh_fraction#??}"} - 100))
    rh_clock
    rh_base=$((rh_base - rh_up))
    rh_claim
    rh_setsid=$(command -v setsid)
    rh_tmp=$(mktemp -d "${TMPDIR:-/tmp}/rompy-hydra.XXXXXX" 2>/dev/null)
    sleep 0.01 2>/dev/null && rh_fine=1 || rh_fine=
    rh_now
    rh_say "task $rh_task job=$rh_job array=${SLURM_ARRAY_JOB_ID:--} restart=$rh_restart pid=$$ at=$rh_at" \
        "cpus=${SLURM_CPUS_ON_NODE:--} nodes=${SLURM_JOB_NUM_NODES:-1} host=$(uname -n)"
    rh_model=$(sed -n 's/^model name[[:space:]]*:[[:space:]]*//p' /proc/cpuinfo 2>/dev/null | sed -n 1p)
    rh_say "cpu $rh_model"
    trap rh_leave EXIT
    trap 'rh_pass TERM' TERM
    trap 'rh_pass INT' INT
    trap 'rh_pass HUP' HUP
    trap 'rh_pass USR1' USR1
    trap 'rh_pass USR2' USR2
}

# One job has the task.  A link is made in one step and says whose it is.  The same job, started again by the scheduler,
# takes its own claim over, and runs once more what the scheduler had ended.
rh_claim() {
    rh_line=$(sed -n "s/^@$rh_token done .*why=//p" "$rh_dir/task.$rh_task" | sed -n '$p')
    case $rh_restart,$rh_line in
    *, | [1-9]*,signal:*) ;;
    *)
        echo "rompy-hydra: task $rh_task is done already; nothing is run again"
        exit 0
        ;;
    esac
    until ln -s "$rh_job.$rh_restart" "$rh_dir/claim.$rh_task" 2>/dev/null; do
        rh_owner=$(readlink "$rh_dir/claim.$rh_task") || { [ -w "$rh_dir" ] && continue || exit 4; }
        if [ "${rh_owner%.*}" != "$rh_job" ] || [ "${rh_owner##*.}" -ge "$rh_restart" ]; then
            echo "rompy-hydra: task $rh_task belongs to $rh_owner; job $rh_job.$rh_restart leaves it alone"
            exit 0
        fi
        rm -f "$rh_dir/claim.$rh_task"
    done
    [ "$rh_restart" = 0 ] || rh_over=" $(sed -n "/ why=signal:/d; s/^@$rh_token end \([0-9]*\) .*last=1.*/\1/p" \
        "$rh_dir/task.$rh_task" | tr '\n' ' ')"
}

rh_say() { printf '@%s %s\n' "$rh_token" "$*" >&9; }

rh_clock() { # rh_up: hundredths of a second since the machine was started
    read -r rh_up rh_rest </proc/uptime
    rh_up=$((${rh_up%.*} * 100 + 1${rh_up#*.} - 100))
}

rh_now() { # rh_at: the time now
    rh_clock
    rh_dot $((rh_base + rh_up))
    rh_at=$rh_dotted
}

rh_dot() { # rh_dotted: hundredths as a decimal number
    rh_dotted=$(($1 % 100))
    [ "$rh_dotted" -gt 9 ] || rh_dotted=0$rh_dotted
    rh_dotted=$(($1 / 100)).$rh_dotted
}

rh_sleep() { # hundredths; can be ended at once
    if [ -n "$rh_fine" ]; then
        rh_dot "$1"
    else
        rh_dotted=$((($1 + 99) / 100))
    fi
    sleep "$rh_dotted" 9>&- &
    rh_sleeper=$!
    wait "$rh_sleeper"
}

# ---- the node is made ready

rh_fail() { # what (setup:2, modules, module:name, cd): the whole task ends here
    rh_now
    rh_say "fail $1 at=$rh_at"
    rh_ended=1
    exit 1
}

rh_module_command() { # makes `module` known to this shell
    for rh_init in "$rh_module_init" "${LMOD_PKG:+$LMOD_PKG/init/sh}" "${MODULESHOME:+$MODULESHOME/init/sh}" \
        /usr/share/lmod/lmod/init/sh /usr/share/modules/init/sh /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do
        command -v module >/dev/null 2>&1 && return
        [ -n "$rh_init" ] && [ -r "$rh_init" ] && . "$rh_init"
    done
    command -v module >/dev/null 2>&1 || rh_fail modules
}

rh_ready() { # set-up lines may have left anything behind
    set +efu
    unset IFS
    rh_say 'ready'
}

rh_secret() { # rh_value: of NAME: what the node has, else the first of these: F:file that holds it, E:.env file
    rh_name=$1
    shift
    eval "rh_value=\${$rh_name-} rh_have=\${$rh_name+1}"
    [ -n "$rh_have" ] && return
    for rh_file; do
        case $rh_file in
        F:*) [ -r "${rh_file#F:}" ] && rh_value=$(cat -- "${rh_file#F:}" && echo .) && rh_value=${rh_value%.} && rh_value=${rh_value%"$rh_newline"} && return ;;
        E:*)
            rh_value=$(sed -n "s/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}$rh_name[[:space:]]*=[[:space:]]*//p" "${rh_file#E:}" 2>/dev/null | sed -n '$p')
            case $rh_value in
            '') continue ;;
            \'*\') rh_value=${rh_value#?} rh_value=${rh_value%?} ;;
            \"*\") rh_value=${rh_value#?} rh_value=${rh_value%?} ;;
            esac
            return
            ;;
        esac
    done
    rh_fail "secret:$rh_name"
}

# ---- the runs of a task

# rh_point NUMBER key=value … -- command: d run directory, w where it runs, o and e logs (%: attempt), E NAME=value,
# t time limit and g grace (hundredths), x exit codes, f n patterns of files (success.files, .nonempty), h H l L a A
# expressions (log_has, log_lacks, abort_on; capital: any case), u a rule that only Python can check, c check (a line
# of sh) and k its log and T its limit, r attempts, R exit codes and S states that are tried again, p pause and P the
# longest one.
rh_point() {
    case $rh_over in *" $1 "*) return ;; esac
    [ -z "$rh_why" ] || { rh_skip "$1" "$rh_why"; return; }
    [ ! -e "$rh_dir/skip.$1" ] || { rh_skip "$1" skipped; return; }
    if [ "${rh_slots:-1}" -le 1 ]; then
        rh_run "$@" &
        rh_running=$!
        rh_await "$rh_running"
        [ "$rh_status" -eq 0 ] || rh_worst=$rh_status
        rh_running=
        return
    fi
    [ "$rh_lanes" -ne 0 ] || rh_queue
    (read -r rh_any <&8) & # not by us: a signal must reach us meanwhile
    rh_await $!
    [ -z "$rh_why" ] || { rh_skip "$1" "$rh_why"; return; }
    rh_still=
    for rh_child in $rh_running; do kill -0 "$rh_child" 2>/dev/null && rh_still="$rh_still $rh_child"; done
    (
        rh_run "$@"
        rh_status=$?
        echo >&8
        exit "$rh_status"
    ) &
    rh_running="$rh_still $!"
}

rh_queue() { # a place for each run that may go on at the same time
    mkfifo "$rh_tmp/places" || rh_fail tmp
    exec 8<>"$rh_tmp/places"
    while [ "$rh_lanes" -lt "$rh_slots" ]; do
        rh_lanes=$((rh_lanes + 1))
        echo >&8
    done
}

rh_await() { # wait for a child whatever signals come meanwhile; rh_status: its exit code
    while :; do
        wait "$1" 2>/dev/null
        rh_status=$?
        kill -0 "$1" 2>/dev/null || return 0
    done
}

rh_skip() {
    rh_now
    rh_say "end $1 attempt=0 at=$rh_at why=$2 last=1"
}

rh_close() {
    for rh_child in $rh_running; do
        rh_await "$rh_child"
        [ "$rh_status" -eq 0 ] || rh_worst=$rh_status
    done
    rh_running=
    rh_now
    rh_say "done $rh_task at=$rh_at why=${rh_why:-ok}"
    rm -f "$rh_dir/claim.$rh_task"
    rh_ended=1
    exit "$rh_worst"
}

rh_leave() {
    trap '' TERM
    [ -n "$rh_ended" ] || { rh_now; rh_say "fail exit at=$rh_at"; }
    [ -z "$rh_tmp" ] || rm -rf "$rh_tmp"
}

rh_pass() { # a signal of the scheduler: to every run and its tree
    case $1 in
    USR1) [ "${rh_early:-TERM}" = TERM ] && rh_why=${rh_why:-time} ;;
    USR2) ;;
    *) rh_why=${rh_why:-signal:$1} ;;
    esac
    for rh_child in $rh_running; do kill -"$1" "$rh_child" 2>/dev/null; done
}

# ---- one run, in a shell of its own

rh_run() {
    rh_n=$1
    shift
    rh_attempts=1 rh_try=0 rh_limit= rh_grace=1000 rh_codes=0 rh_again= rh_states=failed rh_pause=1000 rh_longest=60000
    rh_watched= rh_side= rh_reason= rh_ender= rh_check=
    trap - EXIT
    trap 'rh_end TERM signal:TERM' TERM
    trap 'rh_end TERM signal:INT' INT
    trap 'rh_end TERM signal:HUP' HUP
    trap rh_early_signal USR1
    trap 'rh_tree USR2' USR2
    for rh_a; do
        case $rh_a in
        d=*) rh_run_dir=${rh_a#d=} ;;
        w=*) rh_where=${rh_a#w=} ;;
        o=*) rh_out=${rh_a#o=} ;;
        e=*) rh_err=${rh_a#e=} ;;
        t=*) rh_limit=${rh_a#t=} ;;
        g=*) rh_grace=${rh_a#g=} ;;
        x=*) rh_codes=${rh_a#x=} ;;
        r=*) rh_attempts=${rh_a#r=} ;;
        R=*) rh_again=${rh_a#R=} ;;
        S=*) rh_states=${rh_a#S=} ;;
        p=*) rh_pause=${rh_a#p=} ;;
        P=*) rh_longest=${rh_a#P=} ;;
        c=*) rh_check=${rh_a#c=} ;;
        k=*) rh_check_log=${rh_a#k=} ;;
        T=*) rh_check_limit=${rh_a#T=} ;;
        [aA]=*) rh_watched=1 ;;
        --) break ;;
        esac
    done
    rh_first=0
    [ "$rh_restart" = 0 ] || rh_first=$(grep -c "^@$rh_token begin $rh_n " "$rh_dir/task.$rh_task")
    while :; do
        rh_try=$((rh_try + 1))
        rh_number=$((rh_first + rh_try))
        rh_attempt "$@"
        rh_now
        rh_last=1
        rh_wanted && rh_last=0
        rh_say "end $rh_n attempt=$rh_number at=$rh_at wall=$rh_wall $rh_how cpu=$rh_cpu why=$rh_reason last=$rh_last"
        [ "$rh_last" = 0 ] || break
        rh_sleep "$rh_pause"
        rh_pause=$((rh_pause * 2))
        [ "$rh_pause" -le "$rh_longest" ] || rh_pause=$rh_longest
        if [ -n "$rh_reason_now" ]; then # a signal came while it waited
            rh_skip "$rh_n" "$rh_reason_now"
            break
        fi
    done
    case $rh_reason in
    ok | unchecked) return 0 ;;
    exit) [ "$rh_code" -eq 0 ] || return "$rh_code" ;;
    esac
    return 1
}

rh_wanted() { # whether it is tried again
    [ "$rh_try" -lt "$rh_attempts" ] || return 1
    [ -z "$rh_reason_now" ] || return 1
    case $rh_reason in
    ok | unchecked | signal:* | time) return 1 ;;
    timeout) case " $rh_states " in *' timed_out '*) return 0 ;; esac ;;
    *)
        case " $rh_states " in *' failed '*) ;; *) return 1 ;; esac
        [ -n "$rh_again" ] || return 0
        case " $rh_again " in *" ${rh_how#exit=} "*) return 0 ;; esac
        ;;
    esac
    return 1
}

rh_attempt() {
    rh_reason= rh_reason_now= rh_how=exit=- rh_cpu=- rh_wall=0.00 rh_ender= rh_checking=
    rh_log "$rh_out"
    rh_stdout=$rh_file
    rh_log "$rh_err"
    rh_stderr=$rh_file
    rh_begin
    rh_begun=$rh_up
    rh_reason=log
    printf '' >"$rh_stdout" || return
    [ "$rh_stderr" = "$rh_stdout" ] || printf '' >"$rh_stderr" || return
    rh_reason=cd
    cd -- "$rh_where" || return
    rh_reason=
    rh_text=/dev/null
    [ -z "$rh_tmp" ] || rh_text=$rh_tmp/said.$rh_n.$rh_try
    rh_children
    rh_cpu=$rh_ticks
    rh_start "$@" &
    rh_pid=$!
    rh_watch "$@" &
    rh_side=$!
    rh_await "$rh_pid"
    rh_code=$rh_status
    rh_clock
    rh_dot $((rh_up - rh_begun))
    rh_wall=$rh_dotted
    rh_children
    rh_dot $((rh_ticks - rh_cpu))
    rh_cpu=$rh_dotted
    kill "$rh_side" 2>/dev/null
    rh_await "$rh_side"
    rh_leftovers
    rh_how=exit=$rh_code
    if [ "$rh_code" -gt 128 ]; then
        # Of a signal its shell has said something, and of the exit code that looks like one nothing.  But what we end is
        # ended by a signal, of which some say nothing.
        if [ -s "$rh_text" ] || [ -n "$rh_ender" ] || [ "$rh_status" -ge 10 ]; then
            rh_how=signal=$((rh_code - 128))
        fi
    fi
    case $rh_status in
    10) rh_reason=timeout ;;
    11) rh_reason=skipped ;;
    2?) rh_reason=abort:$((rh_status - 20)) ;;
    esac
    rh_reason=${rh_reason_now:-$rh_reason}
    [ -n "$rh_reason" ] || rh_judge "$@"
}

rh_start() { # becomes the command
    trap - TERM INT HUP USR1 USR2
    exec >>"$rh_stdout" 2>>"$rh_stderr" </dev/null 8>&- 9>&-
    rh_environment
    for rh_a; do
        shift
        case $rh_a in
        E=*) export "${rh_a#E=}" ;;
        --) break ;;
        esac
    done
    export "ROMPY_HYDRA_JOB=$rh_token.$rh_n."
    [ -z "$rh_checking" ] || set -- /bin/sh -c "$rh_check"
    # The first of its session is a shell that only waits, since ours may miss how a command ended that is over at once.
    set -- /bin/sh -c 'trap : TERM INT HUP USR1 USR2; (exec "$@") 2>>"$0"; exit $?' "$rh_stderr" "$@"
    if [ -n "$rh_setsid" ]; then exec "$rh_setsid" "$@" 2>"$rh_text"; else exec "$@" 2>"$rh_text"; fi
}

rh_begin() {
    rh_now
    rh_say "begin $rh_n attempt=$rh_number at=$rh_at"
}

rh_log() { # rh_file: the log of this attempt: out.log, from the second on out.2.log
    rh_file=$1
    [ "$rh_number" -eq 1 ] || [ "$1" = /dev/null ] || rh_file=${1%.log}.$rh_number.log
}

rh_children() { # rh_ticks: user and system time of our children that have ended, in hundredths of a second
    read -r rh_stat </proc/self/stat
    set -- ${rh_stat##*) }
    rh_ticks=$((${14} + ${15}))
}

# ---- while it runs

rh_watch() { # beside the run: its time limit, its memory, its words, a sign of life
    trap '[ -z "$rh_sleeper" ] || kill "$rh_sleeper" 2>/dev/null; exit 0' TERM
    trap - INT HUP USR1 USR2
    rh_step=5 rh_peak=0 rh_seen_out=0 rh_seen_err=0 rh_beat=$((rh_begun + 6000))
    while :; do
        rh_nap=$rh_step
        if [ -n "$rh_limit" ]; then
            rh_clock
            rh_left=$((rh_begun + rh_limit - rh_up))
            [ "$rh_left" -gt 0 ] || rh_verdict 10
            [ "$rh_nap" -le "$rh_left" ] || rh_nap=$rh_left
        fi
        rh_sleep "$rh_nap"
        kill -0 "$rh_pid" 2>/dev/null || exit 0 # a TERM that came before our trap stood is lost
        [ "$rh_step" -ge 400 ] || rh_step=$((rh_step * 2))
        [ -z "$rh_watched" ] || [ "$rh_step" -le 80 ] || rh_step=80
        rh_weigh
        [ ! -e "$rh_dir/skip.$rh_n" ] || rh_verdict 11
        [ -z "$rh_watched" ] || ! rh_find_abort "$@" || rh_verdict $((20 + rh_hit))
        rh_clock
        if [ "$rh_up" -ge "$rh_beat" ]; then
            rh_now
            rh_say "beat $rh_n at=$rh_at"
            rh_beat=$((rh_up + 6000))
        fi
    done
}

rh_verdict() { # it is to end now, and why
    trap '' TERM
    rh_bring_to_end
    exit "$1"
}

rh_weigh() { # the memory of the run's session now; told when it has grown
    rh_pages=0
    for rh_entry in $(cat /proc/[0-9]*/stat 2>/dev/null |
        sed -n "s/^[0-9]* (.*) [A-Z] [0-9-]* [0-9-]* $rh_pid \(.*\)/\1/p" | cut -d ' ' -f 18); do
        rh_pages=$((rh_pages + rh_entry))
    done
    if [ "$rh_pages" -gt $((rh_peak + rh_peak / 20)) ]; then
        rh_peak=$rh_pages
        rh_say "mem $rh_n pages=$rh_peak"
    fi
}

rh_find_abort() { # in what was written since the last look; rh_hit: which expression
    rh_grown=
    rh_size=$(wc -c <"$rh_stdout")
    [ "$rh_size" -eq "$rh_seen_out" ] || rh_grown=1
    rh_from_out=$rh_seen_out rh_seen_out=$rh_size
    rh_size=$(wc -c <"$rh_stderr")
    [ "$rh_size" -eq "$rh_seen_err" ] || rh_grown=1
    rh_from_err=$rh_seen_err rh_seen_err=$rh_size
    [ -n "$rh_grown" ] || return 1
    rh_hit=0
    for rh_a; do
        case $rh_a in
        a=*) rh_look= ;;
        A=*) rh_look=-i ;;
        --) return 1 ;;
        *) continue ;;
        esac
        # A line that was half written at the last look is looked at again: 4 KB more than what is new.
        { tail -c +$((rh_from_out > 4096 ? rh_from_out - 4095 : 1)) "$rh_stdout"; echo
          tail -c +$((rh_from_err > 4096 ? rh_from_err - 4095 : 1)) "$rh_stderr"; } |
            tr '\r' '\n' | LC_ALL=C grep -Eq $rh_look -e "${rh_a#?=}" && return 0
        rh_hit=$((rh_hit + 1))
    done
    return 1
}

rh_early_signal() { # the scheduler's warning before the time limit
    if [ "${rh_early:-TERM}" = TERM ]; then
        rh_end TERM time
    else
        rh_tree "$rh_early"
    fi
}

rh_end() { # in the shell of the run: bring it to an end for this reason
    rh_reason_now=${rh_reason_now:-$2}
    [ -z "$rh_ender" ] || return
    [ -n "$rh_sleeper" ] && kill "$rh_sleeper" 2>/dev/null
    rh_bring_to_end &
    rh_ender=$!
}

rh_bring_to_end() { # TERM to its whole tree, grace, KILL
    trap '' TERM INT HUP USR1 USR2
    rh_tree TERM
    rh_clock
    rh_deadline=$((rh_up + rh_grace)) rh_step=2
    while rh_alive && [ "$rh_up" -lt "$rh_deadline" ]; do
        rh_sleep "$rh_step"
        [ "$rh_step" -ge 50 ] || rh_step=$((rh_step * 2))
        rh_clock
    done
    rh_alive && rh_tree KILL
    rh_tree KILL marked
}

rh_alive() { # whether any process of its group runs; one that only waits to be reaped does not
    if [ -z "$rh_setsid" ]; then
        kill -0 "$rh_pid" 2>/dev/null
        return
    fi
    kill -0 "-$rh_pid" 2>/dev/null &&
        cat /proc/[0-9]*/stat 2>/dev/null | grep -q "^[0-9]* (.*) [^ZX] [0-9-]* $rh_pid "
}

rh_tree() { # a signal to the run's group; `marked`: to all that carry its mark, wherever they have gone
    if [ "${2-}" != marked ]; then
        if [ -n "$rh_setsid" ]; then kill -"$1" "-$rh_pid" 2>/dev/null; else kill -"$1" "$rh_pid" 2>/dev/null; fi
        return
    fi
    for rh_found in $(grep -l -s -e "ROMPY_HYDRA_JOB=$rh_token[.]$rh_n[.]" /proc/[0-9]*/environ 2>/dev/null); do
        rh_found=${rh_found#/proc/}
        kill -"$1" "${rh_found%/environ}" 2>/dev/null
    done
}

rh_leftovers() { # what the main process left in the background goes with it
    [ -z "$rh_ender" ] || rh_await "$rh_ender"
    rh_alive || return
    rh_grace_before=$rh_grace rh_grace=100
    rh_sleep 20
    rh_alive && { rh_say "left $rh_n"; (rh_bring_to_end); }
    rh_grace=$rh_grace_before
}

# ---- its result

rh_judge() { # rh_reason: ok, the first rule that does not hold, or unchecked
    rh_reason=exit
    case $rh_how in signal=*) return ;; esac
    case " $rh_codes " in *" $rh_code "*) ;; *) return ;; esac
    cd -- "$rh_run_dir" || { rh_reason=cd; return; }
    rh_reason=ok rh_i=0
    for rh_a; do
        rh_look=
        case $rh_a in
        f=*) rh_match "${rh_a#f=}" || { rh_reason=files; return; } ;;
        n=*) rh_match "${rh_a#n=}" nonempty || { rh_reason=nonempty; return; } ;;
        [hH]=*)
            [ "${rh_a%%=*}" = h ] || rh_look=-i
            rh_search "${rh_a#?=}" || { rh_reason=log_has; return; }
            ;;
        [lL]=*)
            [ "${rh_a%%=*}" = l ] || rh_look=-i
            rh_search "${rh_a#?=}" && { rh_reason=log_lacks; return; }
            ;;
        a=* | A=*)
            [ "${rh_a%%=*}" = a ] || rh_look=-i
            rh_search "${rh_a#?=}" && { rh_reason=abort:$rh_i; return; }
            rh_i=$((rh_i + 1))
            ;;
        u=*) rh_reason=unchecked ;;
        --) break ;;
        esac
    done
    [ -z "$rh_check" ] || rh_checked "$@"
}

rh_search() {
    cat "$rh_stdout" "$rh_stderr" | tr '\r' '\n' | LC_ALL=C grep -Eq $rh_look -e "$1"
}

rh_match() ( # a pattern below the run directory matches something (that holds something)
    [ -e "./$1" ] && { [ $# -eq 1 ] || rh_full "./$1"; exit; }
    IFS=
    rh_hit=1
    for rh_f in ./$1; do
        [ -e "$rh_f" ] || exit 1
        rh_hit=0
        [ $# -eq 1 ] || rh_full "$rh_f" || exit 1
    done
    exit $rh_hit
)

rh_full() {
    if [ -d "$1" ]; then [ -n "$(ls -A -- "$1")" ]; else [ -s "$1" ]; fi
}

rh_checked() { # the model's own check, a command
    rh_stdout=$rh_check_log rh_stderr=$rh_check_log
    printf '' >"$rh_check_log" || { rh_reason=log; return; }
    rh_checking=1
    rh_start "$@" &
    rh_pid=$!
    (
        trap '[ -z "$rh_sleeper" ] || kill "$rh_sleeper" 2>/dev/null; exit 0' TERM
        rh_clock
        rh_deadline=$((rh_up + rh_check_limit)) rh_step=5
        while [ "$rh_up" -lt "$rh_deadline" ]; do
            [ "$rh_step" -le $((rh_deadline - rh_up)) ] || rh_step=$((rh_deadline - rh_up))
            rh_sleep "$rh_step"
            kill -0 "$rh_pid" 2>/dev/null || exit 0
            [ "$rh_step" -ge 400 ] || rh_step=$((rh_step * 2))
            rh_clock
        done
        rh_verdict 10
    ) &
    rh_side=$!
    rh_await "$rh_pid"
    rh_checked_code=$rh_status
    kill "$rh_side" 2>/dev/null
    rh_await "$rh_side"
    [ "$rh_status" -ne 10 ] || rh_checked_code=timeout
    rh_leftovers
    [ -s "$rh_check_log" ] || rm -f -- "$rh_check_log"
    [ "$rh_checked_code" = 0 ] || rh_reason=check:$rh_checked_code
    rh_reason=${rh_reason_now:-$rh_reason}
}
