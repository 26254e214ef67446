#!/usr/bin/env bash
# install.sh DIR: the agents under test, in pinned versions, for everybody to read. Does nothing when they are there.
#   DIR/bin/claude  DIR/bin/codex  DIR/venv/bin/python3
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(realpath -m "${1:?usage: install.sh DIR}")
umask 022
mkdir -p "$dir"
exec 9>"$dir/.lock"
flock 9

want=$(cd "$here" && sha256sum install.sh package-lock.json requirements.txt)
if [[ -f $dir/.stamp && $(<"$dir/.stamp") == "$want" ]]; then exit 0; fi
rm -rf "$dir/.stamp" "$dir/node" "$dir/venv" "$dir/bin"
mkdir -p "$dir/node" "$dir/bin"

# Without install scripts: Claude Code's only copies its binary to another place.
cp "$here/package.json" "$here/package-lock.json" "$dir/node/"
(cd "$dir/node" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)

# A Python that others may run: one kept in a private home (pyenv under /root) is of no use to an agent's uid.
usable() {
    local as=()
    if ((EUID == 0)); then as=(setpriv --reuid 65534 --regid 65534 --clear-groups --); fi
    "${as[@]}" "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
python=
for p in /usr/bin/python3 /usr/local/bin/python3 "$(command -v python3)"; do
    if usable "$p"; then python=$p && break; fi
done
if [[ -z $python ]]; then
    echo "install.sh: no Python 3.11 that an ordinary user can run; apt-get install python3 python3-venv" >&2
    exit 1
fi
# Debian splits ensurepip off; any other pip can fill the venv just as well.
pip=("$dir/venv/bin/python3" -m pip)
if ! "$python" -m venv "$dir/venv" >/dev/null 2>&1; then
    "$python" -m venv --clear --without-pip "$dir/venv"
    pip=(python3 -m pip --python "$dir/venv/bin/python3")
fi
"${pip[@]}" install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary :all: \
    -r "$here/requirements.txt"

ln -s ../node/node_modules/@anthropic-ai/claude-code-linux-x64/claude "$dir/bin/claude"
ln -s ../node/node_modules/@openai/codex/bin/codex.js "$dir/bin/codex"
chmod -R a+rX "$dir"
printf '%s\n' "$want" >"$dir/.stamp"
