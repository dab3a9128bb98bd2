#!/bin/sh
# Runs check_fields.py with the Python that Veros runs with, because that one has h5py: the first line of the `veros` command names it,
# or it lies beside the command (pip writes `#!/bin/sh` where the path is too long for the kernel or holds a blank).
veros=$(command -v veros) && veros=$(readlink -f "$veros") || { echo "there is no 'veros' on the PATH"; exit 1; }
first=$(head -n 1 "$veros" | tr -d '\0')
case $first in
'#!'*python*) exec ${first#??} check_fields.py ;; # in words, as the kernel does: it may be /usr/bin/env python3
*) exec "$(dirname "$veros")/python3" check_fields.py ;;
esac
