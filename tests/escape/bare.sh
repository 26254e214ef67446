#!/usr/bin/env bash
# Runs the attempts without a ring of ours: bare, or inside the command that is given.
#   ./bare.sh                                 no sandbox
#   ./bare.sh bwrap --ro-bind / / ... --      inside another sandbox; @WS@ stands for the workspace
# PROBE_ARGS: arguments of the probe. The results go to standard output, the count to standard error.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
place=$(mktemp -d "${PROBE_PLACE:-$HOME}/agt-escape-XXXXXX")
chmod 755 "$place"
trap 'exec 7>&- || true; wait || true; rm -rf "$place"' EXIT
cc -O1 -Wall -Wextra -o "$place/probe" "$here"/probe*.c -lpthread
mkfifo "$place/hold"
python3 "$here/victim.py" "$place" <"$place/hold" >"$place/targets" &
exec 7>"$place/hold"
until grep -qx ready "$place/targets"; do sleep 0.05; done
while IFS='=' read -r name value; do
    [ "$name" = ready ] || export "$name=$value"
done <"$place/targets"
printf 'version: 1\n' >"$place/ws/agent.yaml"
export PROBE_YAML=$place/ws/agent.yaml PROBE_STATE=$place PROBE_SUPERVISOR=/bin/false
export AGT_TEST_SECRET=do-not-leak SSH_AUTH_SOCK=/nowhere
cd "$place/ws"
wrapper=("${@//@WS@/$place/ws}")
# shellcheck disable=SC2086
"${wrapper[@]}" "$place/probe" ${PROBE_ARGS:-} </dev/null 7>&- 9</dev/null | tee "$place/results"
echo "succeeded: $(head -n 134 "$place/results" | awk -F'\t' '$2 == "OK"' | wc -l) of the first 134," \
    "$(awk -F'\t' '$2 == "OK"' "$place/results" | wc -l) of $(wc -l <"$place/results")" >&2
