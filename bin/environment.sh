# Sourced by the scripts beside it: make .venv from the locked dependencies, when it is missing or out of step.
# Usage: . bin/environment.sh; environment NAME   (NAME: runtime, dev or browser, a file in requirements/)

find_python() {
    for candidate in "${AGENTIC_OS_PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    echo "agentic-os needs Python 3.11 or newer with venv (on Debian: apt install python3-venv)." >&2
    echo "Set AGENTIC_OS_PYTHON to one that is not on the PATH." >&2
    return 1
}

digest_of() {
    cat "$@" | cksum
}

install_into_venv() {
    name=$1
    if ! .venv/bin/python -c '' >/dev/null 2>&1; then
        python=$(find_python)
        echo "Making .venv with $("$python" --version) ..." >&2
        rm -rf .venv
        "$python" -m venv .venv
    fi
    echo "Installing the locked dependencies ($name); the first time takes about a quarter of a minute ..." >&2
    .venv/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps \
        -r "requirements/$name.txt" 2>.venv/install.log ||
        { cat .venv/install.log >&2; return 1; }
    .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation \
        --editable . 2>.venv/install.log ||
        { cat .venv/install.log >&2; return 1; }
}

environment() {
    stamp=$(digest_of "requirements/$1.txt" pyproject.toml)
    if [ "$(cat ".venv/installed-$1" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    if ! [ -w . ]; then
        echo "Cannot write to $PWD: clone the repository into a folder of your own." >&2
        return 1
    fi
    # Two first runs at once: the second waits for the lock, then finds the stamp.
    tries=0
    until mkdir .venv-lock 2>/dev/null; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ]; then
            echo "Another installation holds $PWD/.venv-lock; if none is running, remove that folder." >&2
            return 1
        fi
        sleep 1
    done
    trap 'rmdir .venv-lock 2>/dev/null' EXIT INT TERM
    if [ "$(cat ".venv/installed-$1" 2>/dev/null)" != "$stamp" ]; then
        install_into_venv "$1"
        echo "$stamp" >".venv/installed-$1"
    fi
    rmdir .venv-lock
    trap - EXIT INT TERM
}
