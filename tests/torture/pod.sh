# What the pods of the crash torture run. Everything that is done leaves a line in the trail of its
# pod, appended and fsynced:
#
#     UPTIME main CONTAINER RUN begin|term|end|overlap [EXIT-CODE LINES]
#     UPTIME main CONTAINER RUN in NAMESPACE PID COMMAND-OF-PID-1
#     UPTIME main CONTAINER RUN zombie NAME
#     UPTIME hook HOOK-ID RUN begin|end|overlap [FLAGS]
#
# RUN of a main counts the programs that were executed, not the attempts: the node's attempt is in
# the name of the log file, whose lines name the run. A lock that the whole tree of a program holds
# shows two that run at the same time, whoever started them.

run=$TORTURE/run/$POD.$2

say() {
    read -r now _ </proc/uptime
    echo "$now $*" >>"$TORTURE/trail/$POD"
    sync "$TORTURE/trail/$POD"
}

burst() {
    for _ in 1 2 3 4; do
        lines=$((lines + 1))
        echo "$POD $2 $number stdout $lines"
        echo "$POD $2 $number stderr $lines" >&2
    done
}

finish() {
    say "main $1 $number end $2 $lines"
    exit "$2"
}

case $1 in
main) # NAME HOW [SECONDS [CODE]]
    told=0 lines=0
    case $3 in
    deaf) trap '' TERM ;;
    *) trap 'told=1' TERM ;;
    esac
    exec 9>>"$run.lock"
    flock -n 9 || say "main $2 0 overlap"
    number=0
    [ ! -e "$run" ] || read -r number <"$run"
    number=$((number + 1))
    echo $number >"$run"
    say "main $2 $number begin"
    if [ -n "$SHARED" ]; then
        read -r first </proc/1/comm
        say "main $2 $number in $(readlink /proc/self/ns/pid) $$ $first"
        for stat in /proc/[0-9]*/stat; do # what comes to pause is reaped at once
            { read -r _ name state parent _ <"$stat"; } 2>/dev/null || continue
            [ "$state$parent" != Z1 ] || say "main $2 $number zombie $name"
        done
    fi
    case $3 in
    short)
        burst "$@"
        sleep "$4"
        finish "$2" 0
        ;;
    job) # fails twice
        burst "$@"
        sleep "$4"
        [ $number -ge 3 ] || finish "$2" $((number + 10))
        : >"$TORTURE/flags/$POD/over"
        finish "$2" 0
        ;;
    crash)
        burst "$@"
        sleep "$4"
        finish "$2" $((number % 50 + 1))
        ;;
    anew) # twice it restarts all
        burst "$@"
        sleep "$4"
        [ $number -ge 3 ] || finish "$2" 42
        ;;
    wild) # takes its reaper with it, and leaves something that holds its lock
        burst "$@"
        setsid sleep 1000 &
        sleep "$4"
        kill -9 $PPID
        exec sleep 1000
        ;;
    esac
    while [ $told = 0 ]; do
        burst "$@"
        sleep 0.5 &
        wait $!
    done
    say "main $2 $number term"
    [ "$3" != slow ] || sleep "$4"
    finish "$2" 7
    ;;
hook) # NAME SECONDS [once]
    exec 8>>"$run.${PODVISOR_HOOK_ID##*/}.lock"
    flock -n 8 || say "hook $PODVISOR_HOOK_ID $PODVISOR_HOOK_ATTEMPT overlap"
    cd "$TORTURE/flags/$POD" || exit
    say "hook $PODVISOR_HOOK_ID $PODVISOR_HOOK_ATTEMPT begin" *
    sleep "$3"
    case $4$PODVISOR_HOOK_ID in
    once*/0/*)
        : >"failed.$2"
        say "hook $PODVISOR_HOOK_ID $PODVISOR_HOOK_ATTEMPT failed"
        exit 1
        ;;
    esac
    say "hook $PODVISOR_HOOK_ID $PODVISOR_HOOK_ATTEMPT end"
    ;;
probe) # NAME [sick]
    sleep 0.2
    [ "$3" = sick ] || exit 0
    read -r number <"$run"
    [ "$number" = 2 ] || exit 0
    : >"$TORTURE/flags/$POD/sick.$2"
    exit 1
    ;;
esac
