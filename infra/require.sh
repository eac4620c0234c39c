#!/bin/sh
# What pip cannot bring, looked for before anything is downloaded: Python 3.11+ and Java 17+.
python=${1:-python3}

if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "bisieve: expected Python 3.11 or newer with venv; found $("$python" --version 2>&1 || true);" \
         "install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name one: make PYTHON=python3.12" >&2
    exit 1
fi

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
if [ "${version:-0}" -lt 17 ]; then
    echo "bisieve: expected Java 17 or newer for Spark; found ${version:+Java }${version:-none};" \
         "install it (Debian, Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17)" >&2
    exit 1
fi
