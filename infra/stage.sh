#!/bin/sh
# Run a command that would fill the screen, or say nothing for minutes: one line with its name, a dot every ten
# seconds, and the seconds it took.  `stage.sh LOG NAME COMMAND…`; what the command writes is in LOG.
set -u

log=$1 name=$2
shift 2
mkdir -p "$(dirname "$log")"
printf '%s ...' "$name"
start=$(date +%s)
"$@" >"$log" 2>&1 &
command=$!
trap 'kill "$command" 2>/dev/null; echo; exit 130' INT
trap 'kill "$command" 2>/dev/null; echo; exit 143' TERM
waited=0
while kill -0 "$command" 2>/dev/null; do
    sleep 1
    waited=$((waited + 1))
    [ $((waited % 10)) -eq 0 ] && printf .
done
wait "$command"
code=$?
if [ "$code" -ne 0 ]; then
    printf ' failed after %d s\n' $(($(date +%s) - start))
    tail -n 15 "$log" >&2
    echo "bisieve: error: expected \"$name\" to succeed; found exit code $code; all that it wrote is in $log" >&2
    exit "$code"
fi
printf ' done in %d s\n' $(($(date +%s) - start))
