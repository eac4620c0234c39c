#!/bin/sh
# The browser in which tests look at the pages of reports.  Where it is missing and this is root on Debian or
# Ubuntu, it is installed; elsewhere the line below says what to do.
set -u

for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
    [ -n "$name" ] && command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    log=$(mktemp)
    printf 'installing chromium for the tests of reports (about a minute) ...'
    start=$(date +%s)
    install='apt-get install --yes --no-install-recommends chromium'
    if DEBIAN_FRONTEND=noninteractive sh -c "$install || { apt-get update && $install; }" >"$log" 2>&1; then
        printf ' done in %d s\n' $(($(date +%s) - start))
        exit 0
    fi
    printf ' failed\n'
    tail -n 5 "$log" >&2
fi
echo "bisieve: expected the browser Chromium for the tests of reports; found none;" \
     "install it (Debian: apt-get install chromium; macOS: brew install chromium), name one in CHROMIUM," \
     "or run make test-fast, which needs none" >&2
exit 1
