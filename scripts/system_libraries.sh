#!/usr/bin/env bash
# Checks for the shared system libraries that the wheels of open3d and OpenCV need, or installs the missing ones.
#   scripts/system_libraries.sh check      names what is missing with the apt line, exit 1
#   scripts/system_libraries.sh install    installs it where apt-get is there and root, or sudo without a password
#   scripts/system_libraries.sh list       prints the packages, as for a container image (sonames: the libraries)
#   scripts/system_libraries.sh browser    installs chromium, in which the tests look at the pages, where none is there
set -euo pipefail

needed="libusb-1.0.so.0:libusb-1.0-0 libGL.so.1:libgl1 libEGL.so.1:libegl1 libX11.so.6:libx11-6 libudev.so.1:libudev1
libidn2.so.0:libidn2-0 libglib-2.0.so.0:libglib2.0-0 libSM.so.6:libsm6 libICE.so.6:libice6 libXext.so.6:libxext6
libxcb.so.1:libxcb1 libgomp.so.1:libgomp1"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; } || return 1
    echo "Installing with apt-get: $*" >&2
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

if [ "${1:-}" = list ]; then
    for pair in $needed; do echo "${pair##*:}"; done
    exit 0
fi

if [ "${1:-}" = sonames ]; then
    for pair in $needed; do echo "${pair%%:*}"; done
    exit 0
fi

if [ "${1:-}" = browser ]; then
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
        apt_install chromium || {
        echo "Install chromium, or the tests that look at the pages in a browser are skipped:   sudo apt-get install -y chromium" >&2
        exit 1
    }
    exit 0
fi

python=${PYTHON:-python3}
find_missing() {
    missing=()
    if [ "$(uname -s)" = Linux ]; then
        local known pair
        known=$( (ldconfig -p || /sbin/ldconfig -p) 2>/dev/null)
        for pair in $needed; do
            grep -qF "${pair%%:*} " <<<"$known" || missing+=("${pair##*:}")
        done
    fi
    command -v "$python" >/dev/null || missing+=(python3)
    "$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
}

find_missing
if [ ${#missing[@]} -gt 0 ] && [ "${1:-check}" = install ] && apt_install "${missing[@]}"; then
    find_missing
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "VON needs Python 3.11 or newer as '$python'; name another one with: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
}
[ ${#missing[@]} -eq 0 ] && exit 0
echo "These system libraries are missing: ${missing[*]}" >&2
echo "Install them, then run the command again:   sudo apt-get install -y ${missing[*]}" >&2
exit 1
