#!/bin/sh
# What pip cannot bring, looked for before anything is downloaded: `require.sh python [PYTHON]`, `require.sh java`.
set -u

case "$1" in
python)
    python=${2:-python3}
    "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && exit 0
    echo "bisieve: expected Python 3.11 or newer with venv; found $("$python" --version 2>&1 || true);" \
         "install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name one: make PYTHON=python3.12" >&2
    exit 1
    ;;
java)
    java=${JAVA_HOME:+$JAVA_HOME/bin/}java
    version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 17 ] && exit 0
    echo "bisieve: expected Java 17 or newer for Spark; found ${version:+Java }${version:-none};" \
         "install it (Debian, Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17)" >&2
    exit 1
    ;;
esac
