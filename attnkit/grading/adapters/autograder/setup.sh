#!/usr/bin/env bash
# Gradescope runs this once, as root, while it builds the autograder's image.
set -euo pipefail
root="${AUTOGRADER_ROOT:-/autograder}"
home="${ATTNKIT_HOME:-/opt/attnkit}" # not in root's own folders: the answers' user runs this Python
export DEBIAN_FRONTEND=noninteractive

find_python() {
  for folder in /usr/local/bin/ /usr/bin/ ""; do # the system's first: one in root's own folder no other user can run
    for name in python3.13 python3.12 python3.11 python3; do
      if "$folder$name" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        command -v "$folder$name"
        return
      fi
    done
  done
  return 1
}

install() { apt-get install -y -q --no-install-recommends "$@"; }

# Where the container lets bubblewrap build a jail, answers run in one; where not, under a user of no rights.
command -v bwrap >/dev/null || { apt-get update -q && install bubblewrap; } || echo "no bubblewrap: isolation is uid"
if ! find_python >/dev/null; then
  apt-get update -q
  install python3.12 python3.12-venv || install python3.11 python3.11-venv
fi
python=$(find_python) || { echo "attnkit needs Python 3.11 or newer: choose a newer base image" >&2; exit 1; }

"$python" -m venv "$home"
# pip_args.txt may be empty: its words are meant to be split
# shellcheck disable=SC2046
"$home/bin/python" -m pip install -q --no-cache-dir $(cat "$root/source/pip_args.txt") -r "$root/source/requirements.txt"
chmod -R a+rX "$home"
# The folder is closed to all but root; inside, the few files that go into a jail are read there by its user.
chmod 700 "$root/source"
chmod -R go+rX "$root/source/attnkit"
# What does not work should fail now, while an instructor looks on, and not at the first submission.
cd /
PYTHONPATH="$root/source" "$home/bin/python" -s -P -B -m attnkit.grading.adapters.gradescope_run --check "$root"
