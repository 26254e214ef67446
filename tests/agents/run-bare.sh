#!/usr/bin/env bash
# run-bare.sh INSTALL_DIR [--tls] [--url URL] [AGENT ...]: each agent does work.json with no sandbox around it.
# Prints `AGENT ok` for each whose commit is there, and fails when one is missing.
#   --tls   the model server speaks TLS with a certificate made for this run
#   --url   a model server that runs already (with --tls, its CA is in $CA_FILE)
# Run as root it becomes uid 1001 for the agents; KEEP=1 leaves the folders.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(realpath "${1:?usage: run-bare.sh INSTALL_DIR [--tls] [--url URL] [AGENT ...]}")
shift
tls='' url='' agents=()
while (($#)); do
    case $1 in
    --tls) tls=1 ;;
    --url) url=$2 && shift ;;
    *) agents+=("$1") ;;
    esac
    shift
done
((${#agents[@]})) || agents=(claude codex smolagents langchain)

as=(setpriv --reuid 1001 --regid 1001 --clear-groups --)
if ((EUID != 0)); then as=(env); fi
# Not below /tmp: there Codex refuses to make its helper links.
top=$(mktemp -d "${WORK_DIR:-/var/tmp}/agents.XXXXXX")
chmod 755 "$top"
server=
clean() {
    if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; fi
    if [[ -z ${KEEP:-} ]]; then rm -rf "$top"; else echo "left: $top" >&2; fi
}
trap clean EXIT
cp -r "$here/programs" "$top/"
chmod -R a+rX "$top/programs"

ca=${CA_FILE:-}
if [[ -z $url ]]; then
    args=()
    if [[ -n $tls ]]; then
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
            -keyout "$top/key.pem" -out "$top/ca.pem" 2>/dev/null
        args=(--cert "$top/ca.pem" --key "$top/key.pem") ca=$top/ca.pem
    fi
    python3 "$here/model.py" --script "$here/work.json" --log "$top/log.jsonl" "${args[@]}" >"$top/url" 2>"$top/model.err" &
    server=$!
    for _ in $(seq 100); do [[ -s $top/url ]] || sleep 0.1; done
    url=$(<"$top/url")
    if [[ -z $url ]]; then cat "$top/model.err" >&2 && exit 1; fi
    if [[ -n $tls ]]; then url=${url/127.0.0.1/localhost}; fi
fi

# The environment and the command line of an agent: README.md explains each.
launch() {
    local agent=$1 home=$2
    local set=(HOME="$home" PATH=/usr/local/bin:/usr/bin:/bin)
    if [[ -n $ca ]]; then set+=(SSL_CERT_FILE="$ca" NODE_EXTRA_CA_CERTS="$ca"); fi
    local provider="{name=\"scripted\", base_url=\"$url/v1\", wire_api=\"responses\", env_key=\"MODEL_KEY\"}"
    case $agent in
    claude)
        set+=(ANTHROPIC_BASE_URL="$url" ANTHROPIC_API_KEY=none DISABLE_AUTOUPDATER=1
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1)
        set -- "$dir/bin/claude" -p "Do the work." --dangerously-skip-permissions
        ;;
    codex)
        set+=(MODEL_KEY=none)
        set -- "$dir/bin/codex" exec --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check -m gpt-5.5 \
            -c model_provider=scripted -c "model_providers.scripted=$provider" -c check_for_update_on_startup=false \
            -c analytics.enabled=false "Do the work."
        ;;
    smolagents)
        set+=(MODEL_URL="$url" HF_HUB_DISABLE_TELEMETRY=1 PYTHONDONTWRITEBYTECODE=1)
        set -- "$dir/venv/bin/python3" "$top/programs/smol.py"
        ;;
    langchain)
        set+=(MODEL_URL="$url" PYTHONDONTWRITEBYTECODE=1)
        set -- "$dir/venv/bin/python3" "$top/programs/chain.py"
        ;;
    *) echo "no such agent: $agent" >&2 && return 2 ;;
    esac
    "${as[@]}" env -i "${set[@]}" timeout 120 "$@"
}

failed=0
for agent in "${agents[@]}"; do
    home=$top/$agent/home ws=$top/$agent/ws
    mkdir -p "$home" "$ws"
    if ((EUID == 0)); then chown -R 1001:1001 "$top/$agent"; fi
    git=("${as[@]}" env HOME="$home" git -C "$ws")
    "${git[@]}" -c init.defaultBranch=main init -q
    "${git[@]}" config user.name Agent
    "${git[@]}" config user.email agent@localhost
    start=$(date +%s%N) rc=0
    (cd "$ws" && launch "$agent" "$home") >"$top/$agent/out" 2>&1 </dev/null || rc=$?
    took=$((($(date +%s%N) - start) / 1000000))
    if ((rc == 0)) && "${git[@]}" log --oneline 2>/dev/null | grep -q 'Agent: notes' &&
        grep -qx '2nd line' "$ws/notes.txt" && [[ $(<"$ws/made.py") == 'print(6 * 7)' ]] &&
        grep -q done "$top/$agent/out"; then
        echo "$agent ok"
    else
        echo "$agent FAILED (exit code $rc)"
        tail -20 "$top/$agent/out"
        failed=1
    fi
    echo "$agent: $took ms" >&2
done
exit $failed
