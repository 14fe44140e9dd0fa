#!/bin/sh
# The agent with its capabilities alone: a privileged container begins with all of them, and
# Kubernetes gives mount propagation towards the node to no other. Reasons: docs/security.md.
set -eu
kept=chown,dac_override,fowner,kill,net_admin,net_bind_service,net_raw,setgid,setuid,sys_admin
only=-all$(printf ',%s' "$kept" | sed 's/,/,+/g')
exec setpriv --bounding-set "$only" --inh-caps "$only" --no-new-privs -- novakube-agent "$@"
