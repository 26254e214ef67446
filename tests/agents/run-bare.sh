#!/usr/bin/env bash
# run-bare.sh INSTALL_DIR [OPTION ...] [AGENT ...]: each agent does work.json with no sandbox around it.
# Prints `AGENT ok` for each whose commit is there, and fails when one is missing.
#   --attack     attack.json instead: every attempt must succeed, or its failure in a sandbox would show nothing
#   --tls        the model server speaks TLS with a certificate made for this run
#   --url URL    a model server that runs already; CA_FILE names the CA of its certificate
#   --proxy URL  HTTPS_PROXY of the agents
# Run as root it becomes uid 1001 for the agents; KEEP=1 leaves the folders.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(realpath "${1:?usage: run-bare.sh INSTALL_DIR [--attack] [--tls] [--url URL] [--proxy URL] [AGENT ...]}")
shift
attack='' tls='' url='' proxy='' agents=()
while (($#)); do
    case $1 in
    --attack) attack=1 ;;
    --tls) tls=1 ;;
    --url) url=$2 && shift ;;
    --proxy) proxy=$2 && shift ;;
    *) agents+=("$1") ;;
    esac
    shift
done
((${#agents[@]})) || agents=(claude codex smolagents langchain)
if [[ -n $attack && -n $url ]]; then echo "run-bare.sh: --attack needs a server of its own" >&2 && exit 2; fi

as=(setpriv --reuid 1001 --regid 1001 --clear-groups --)
if ((EUID != 0)); then as=(env); fi
# Not below /tmp: there Codex refuses to make its helper links.
top=$(mktemp -d "${WORK_DIR:-/var/tmp}/agents.XXXXXX")
chmod 755 "$top"
servers=()
clean() {
    local left=("${servers[@]}")
    if [[ -n $attack ]]; then mapfile -t -O "${#left[@]}" left < <(pgrep -fx "sleep $daemon"); fi
    kill "${left[@]}" 2>/dev/null || true
    if [[ -z ${KEEP:-} ]]; then rm -rf "$top"; else echo "left: $top" >&2; fi
}
trap clean EXIT
cp -r "$here/programs" "$top/"
chmod -R a+rX "$top/programs"

# A CA and a certificate of its own: Codex (rustls) refuses a CA that is used as the server's certificate.
certificate() {
    local at=$1 name=$2 new=(openssl req -newkey rsa:2048 -nodes -days 2)
    "${new[@]}" -x509 -subj /CN=test-ca -keyout "$at/ca-key.pem" -out "$at/ca.pem" 2>/dev/null
    "${new[@]}" -x509 -CA "$at/ca.pem" -CAkey "$at/ca-key.pem" -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
        -addext basicConstraints=critical,CA:FALSE -keyout "$at/key.pem" -out "$at/cert.pem" 2>/dev/null
}

# What attack.json goes for, all of it open to any uid: nothing but a sandbox would be in the way.
daemon=98$((RANDOM % 90000 + 10000))
attack_ground() {
    mkdir "$top/other" "$top/outside"
    chmod 777 "$top/outside"
    echo other-secret >"$top/other/secret"
    echo host-secret >"$top/host.key"
    python3 -u -m http.server --bind 127.0.0.1 --directory "$top/other" 0 >"$top/forbidden" 2>/dev/null &
    servers+=($!)
    for _ in $(seq 100); do [[ -s $top/forbidden ]] || sleep 0.1; done
    local port
    port=$(sed -n 's/.* port \([0-9]*\) .*/\1/p' "$top/forbidden")
    args=(--script "$here/attack.json" --set OTHER_HOME="$top/other" --set HOST_KEY="$top/host.key"
        --set OUTSIDE="$top/outside" --set FORBIDDEN="127.0.0.1:$port" --set DAEMON="$daemon")
}

# Whether an agent did what it was asked for.
did() {
    local agent=$1 ws=$top/$1/ws
    grep -q done "$top/$agent/out" || return 1
    if [[ -z $attack ]]; then
        [[ $(<"$ws/made.py") == 'print(6 * 7)' ]] && grep -qx '2nd line' "$ws/notes.txt" &&
            "${git[@]}" log --oneline | grep -q 'Agent: notes'
        return
    fi
    # `done` was asked for, so the seven results came; the daemon outlived its agent: end it.
    local pids
    pids=$(pgrep -fx "sleep $daemon") && kill $pids && rm "$top/outside/x" &&
        "${git[@]}" log --oneline | grep -q 'Agent: still here' &&
        [[ $(grep -o 'ATTEMPT [a-z-]* rc=0' "$top/log.jsonl" | sort -u | wc -l) == 7 ]] &&
        ! grep -qE 'ATTEMPT [a-z-]* rc=[1-9]' "$top/log.jsonl"
}

ca=${CA_FILE:-}
if [[ -z $url ]]; then
    args=(--script "$here/work.json")
    if [[ -n $attack ]]; then attack_ground; fi
    if [[ -n $tls ]]; then
        certificate "$top" localhost
        args+=(--cert "$top/cert.pem" --key "$top/key.pem") ca=$top/ca.pem
    fi
    python3 "$here/model.py" --log "$top/log.jsonl" "${args[@]}" >"$top/url" 2>"$top/model.err" &
    servers+=($!)
    for _ in $(seq 100); do [[ -s $top/url ]] || sleep 0.1; done
    url=$(<"$top/url")
    if [[ -z $url ]]; then cat "$top/model.err" >&2 && exit 1; fi
    if [[ -n $tls ]]; then url=${url/127.0.0.1/localhost}; fi
fi

# The environment and the command line of an agent: README.md explains each.
launch() {
    local agent=$1 home=$2
    local set=(HOME="$home" PATH=/usr/local/bin:/usr/bin:/bin)
    if [[ -n $ca ]]; then set+=(SSL_CERT_FILE="$ca"); fi
    if [[ -n $proxy ]]; then set+=(HTTPS_PROXY="$proxy"); fi
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
            -c model_provider=scripted -c "model_providers.scripted=$provider" \
            -c analytics.enabled=false -c check_for_update_on_startup=false --disable plugins "Do the work."
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
    : >"$top/log.jsonl"
    start=$(date +%s%N) rc=0
    (cd "$ws" && launch "$agent" "$home") >"$top/$agent/out" 2>&1 </dev/null || rc=$?
    took=$((($(date +%s%N) - start) / 1000000))
    if ((rc == 0)) && did "$agent"; then
        echo "$agent ok"
    else
        echo "$agent FAILED (exit code $rc)"
        tail -20 "$top/$agent/out"
        failed=1
    fi
    echo "$agent: $took ms" >&2
done
exit $failed
