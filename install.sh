#!/bin/sh
# Installs the locked dependencies when they are missing or older than the lock file; otherwise does nothing.
set -e
cd "$(dirname "$0")"
if ! cmp -s package-lock.json node_modules/.installed-lock; then
  echo "Installing dependencies (about a minute the first time)…" >&2
  npm ci --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json node_modules/.installed-lock
fi
