#!/bin/sh
# The suite on CPython 3.10 to 3.13 at hand, on 3.14 and 3.15 from Debian sid in a folder (with its memcached, the
# newest), and on free-threaded 3.13, built there from Debian's source package. Arguments go to pytest.
# SID: a folder that has such a sid already. PYTHON313T: a free-threaded interpreter to use instead of building one.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd)
. tools/debian.sh
sid=${SID:-$here/build/sid}
status=0

PYTHONS="${PYTHONS:-$(python3 tools/find_pythons.py | cut -d' ' -f2)} ${PYTHON313T:-}" tools/test.sh all "$@" || status=1

debian_make "$sid" sid "$SID_PACKAGES"
pythons="python3.14 python3.15"
if [ -z "${PYTHON313T:-}" ]; then
    debian_python "$sid" /opt/python3.13t ""
    pythons="$pythons /opt/python3.13t/bin/python3.13t"
fi
debian_tree "$sid"
debian_run "$sid" env PYTHONS="$pythons" sh -c 'cd /srv/mcext && tools/test.sh all "$@"' - "$@" || status=1
exit $status
