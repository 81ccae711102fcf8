#!/bin/sh
# PostgreSQL and Chromium from Debian, for the tests that use them. Where they cannot be installed
# (no root, no apt) those tests are skipped and say so: this script never fails.
set -u
missing=""
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium fonts-dejavu-core"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "not installed:$missing; the tests that need them will be skipped"
  exit 0
fi
install="timeout 300 apt-get install -y -qq --no-install-recommends"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
if ! $install $missing >/dev/null 2>&1; then
  timeout 120 apt-get update -qq >/dev/null 2>&1
  $install $missing >/dev/null 2>&1 ||
    echo "cannot be installed here:$missing; the tests that need them will be skipped"
fi
exit 0
