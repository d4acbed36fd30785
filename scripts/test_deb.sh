#!/bin/sh
# Test the Debian package in a Debian root, without a network: scripts/test_deb.sh PYTHON PACKAGE.deb ROOT
#
# Install, run `doctor`, classify into the worklist, upgrade and remove (both keep the worklist), install again, and purge
# (which deletes the worklist). ROOT is a Debian root that scripts/debian_root.sh has made; the test changes it. A package for
# arm64 is tested in the emulator: scripts/with_arm64.sh .arm64 sh scripts/test_deb.sh ... The test must run as root.
set -eu
python=$1 package=$2 root=$3
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "test_deb: SKIPPED: run it as root" >&2 && exit 0; }
# Without /sys the runtime does not use XNNPACK, and the golden slices of the bundle fail.
inside() {
    unshare --net --mount sh -c 'root=$1; shift
        for folder in proc sys dev; do mount --rbind /$folder "$root/$folder"; done
        exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root \
            DEBIAN_FRONTEND=noninteractive ${QEMU_CPU:+"QEMU_CPU=$QEMU_CPU"} "$@"' sh "$root" "$@"
}
as_service() { inside setpriv --reuid edge-ct --regid edge-ct --clear-groups "$@"; }
state=/var/lib/edge-ct
: >"$root/etc/apt/sources.list"
rm -f "$root"/etc/apt/sources.list.d/*
mkdir -p "$root/media/stick"
cp "$package" "$root/media/stick/old.deb"
# Make the same package with a higher version, for the upgrade.
newer=$(mktemp -d)
dpkg-deb --raw-extract "$package" "$newer/tree"
sed -i 's/^Version: .*/&+newer/' "$newer/tree/DEBIAN/control"
dpkg-deb --root-owner-group -Znone --build "$newer/tree" "$root/media/stick/new.deb" >/dev/null
rm -rf "$newer"
"$python" -c "
import sys, cv2
from edge_ct.phantom import make_slice
cv2.imwrite(sys.argv[1], make_slice(1, 3, True, 256).image)" "$root/media/stick/slice.png"

echo "== install"
inside apt-get install -y -qq /media/stick/old.deb >/dev/null
inside edge-ct --version
[ "$(inside stat -c '%U %a' $state)" = "edge-ct 700" ]
inside sh -c 'systemd-analyze verify /usr/lib/systemd/system/edge-ct-*.service' || echo "systemd-analyze: see above"
echo "== doctor"
if [ -n "${QEMU_CPU:-}" ]; then
    # The golden slices of a bundle have seconds on a device; an emulator needs minutes.
    for trial in "$root"/opt/edge-ct/lib/python3*/site-packages/edge_ct/trust/trial.py; do
        sed -i 's/^_SECONDS, _SECONDS_A_MIB = .*/_SECONDS, _SECONDS_A_MIB = 1200.0, 0.0/' "$trial"
        rm -f "$(dirname "$trial")"/__pycache__/trial.*
    done
fi
as_service edge-ct doctor --state $state --json >"$root/tmp/doctor.json" || [ $? = 10 ]
inside /opt/edge-ct/bin/python -c "import json; checks = {c['name']: c['status'] for c in json.load(open('/tmp/doctor.json'))['checks']}; print(checks); assert checks['golden'] == 'good', checks"
echo "== classify"
as_service edge-ct classify /media/stick/slice.png --worklist --state $state --json
echo "== upgrade"
inside apt-get install -y -qq /media/stick/new.deb >/dev/null
inside dpkg-query -W edge-ct
[ "$(as_service edge-ct worklist list --state $state --json | wc -l)" = 1 ]
as_service edge-ct worklist verify --state $state
echo "== remove"
inside apt-get remove -y -qq edge-ct >/dev/null
[ -e "$root$state/worklist.sqlite" ]
[ ! -e "$root/opt/edge-ct" ] && [ ! -e "$root/usr/bin/edge-ct" ]
echo "== install again, and find the earlier worklist"
inside apt-get install -y -qq /media/stick/old.deb >/dev/null
[ "$(as_service edge-ct worklist list --state $state --json | wc -l)" = 1 ]
echo "== remove, and answer that the worklist is deleted as well"
inside sh -c 'echo "edge-ct edge-ct/delete-worklist boolean true" | debconf-set-selections'
inside apt-get remove -y -qq edge-ct >/dev/null
[ ! -e "$root$state" ]
echo "== install and purge"
inside apt-get install -y -qq /media/stick/old.deb >/dev/null
[ -e "$root$state" ]
inside apt-get purge -y -qq edge-ct >/dev/null
[ ! -e "$root$state" ] && [ ! -e "$root/opt/edge-ct" ]
echo "test_deb: passed"
