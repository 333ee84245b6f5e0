#!/bin/sh
# Installs the locked dependencies when they are missing or older than the lock file; otherwise does nothing.
# Not `npm ci`: it refuses a lock file that lacks optional binaries of platforms which the registry it was made with does not serve.
# `npm install --no-save` takes the locked versions alike and finds this platform's binaries.
set -e
cd "$(dirname "$0")"
if ! cmp -s package-lock.json node_modules/.installed-lock; then
  echo "Installing dependencies (about a minute the first time)…" >&2
  npm install --no-save --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json node_modules/.installed-lock
fi
