#!/usr/bin/env bash
# Which shared libraries the wheels of open3d and OpenCV expect from the system: check them, or install what is missing.
#   scripts/system_libraries.sh check      names what is missing with the apt line, exit 1
#   scripts/system_libraries.sh install    installs it where apt-get and root are there
#   scripts/system_libraries.sh browser    installs chromium, in which the tests look at the pages, where none is there
set -euo pipefail

needed="libusb-1.0.so.0:libusb-1.0-0 libGL.so.1:libgl1 libEGL.so.1:libegl1 libX11.so.6:libx11-6 libudev.so.1:libudev1
libidn2.so.0:libidn2-0 libglib-2.0.so.0:libglib2.0-0 libSM.so.6:libsm6 libICE.so.6:libice6 libXext.so.6:libxext6
libxcb.so.1:libxcb1 libgomp.so.1:libgomp1"

apt_install() {
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 1
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

if [ "${1:-}" = browser ]; then
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
        apt_install chromium || {
        echo "Install chromium, or the tests that look at the pages in a browser are skipped:   sudo apt-get install -y chromium" >&2
        exit 1
    }
    exit 0
fi

missing=()
if [ "$(uname -s)" = Linux ]; then
    known=$( (ldconfig -p || /sbin/ldconfig -p) 2>/dev/null)
    for pair in $needed; do
        grep -qF "${pair%%:*} " <<<"$known" || missing+=("${pair##*:}")
    done
fi

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "VON needs Python 3.11 or newer as '$python'; name another one with: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
}
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)

[ ${#missing[@]} -eq 0 ] && exit 0
[ "${1:-check}" = install ] && apt_install "${missing[@]}" && exit 0
echo "These system libraries are missing: ${missing[*]}" >&2
echo "Install them, then run the command again:   sudo apt-get install -y ${missing[*]}" >&2
exit 1
