# Sourced by bin/test: the clients of agents that tests/agents drives, installed once into .cache/agent-clients.
# Usage: . bin/clients.sh; clients

clients() {
    locked=tests/agents/clients
    stamp=$(digest_of "$locked/package.json" "$locked/package-lock.json")
    target=.cache/agent-clients
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        echo "The clients of agents need Node.js 20 or newer, with npm (on Debian: apt install nodejs npm)." >&2
        return 1
    fi
    if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
        echo "The clients of agents need Node.js 20 or newer; this is $(node --version)." >&2
        return 1
    fi
    if [ "$(cat "$target/installed" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    echo "Installing the clients of agents with npm, about 1.2 GB; this takes half a minute ..." >&2
    mkdir -p "$target"
    rm -f "$target/installed"
    cp "$locked/package.json" "$locked/package-lock.json" "$target/"
    # Not `npm ci`: it asks that the lock knows the optional packages of every other platform, and not all are published
    # everywhere. What the lock knows is held to its version and hash all the same. A cache of its own, gone afterwards:
    # the packages are large, and installed once.
    (cd "$target" && npm install --no-save --cache ./npm-cache --no-audit --no-fund --loglevel=error) >&2 || return 1
    rm -rf "$target/npm-cache"
    echo "$stamp" >"$target/installed"
}
