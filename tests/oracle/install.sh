#!/usr/bin/env bash
# install.sh DIR: the toolkit's own evaluators in pinned versions, in the virtual environment DIR. Does nothing when it is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(realpath -m "${1:?usage: install.sh DIR}")
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9

if cmp -s "$here/requirements.txt" "$dir/.stamp"; then exit 0; fi
rm -rf "$dir"
# Debian splits ensurepip off; any other pip can fill the venv just as well.
pip=("$dir/bin/python3" -m pip)
if ! python3 -m venv "$dir" >/dev/null 2>&1; then
    python3 -m venv --clear --without-pip "$dir"
    pip=(python3 -m pip --python "$dir/bin/python3")
fi
"${pip[@]}" install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary :all: \
    -r "$here/requirements.txt"
cp "$here/requirements.txt" "$dir/.stamp"
