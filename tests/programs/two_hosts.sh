#!/usr/bin/env bash
# two_hosts.sh COMMAND...: runs COMMAND on one of two hosts, which are network namespaces of this machine with names of their own
# and a cable between them: 10.77.0.1 (here) and 10.77.0.2. COMMAND may be an mpirun whose plm_rsh_agent is this script: it then
# starts the processes of the other host. Ends with 77 when the system does not permit this.
set -euo pipefail

if [ "${AGENT_OF:-}" ]; then  # as mpirun's agent: HOST COMMAND...
  shift
  exec nsenter --target "$AGENT_OF" --net --uts -- sh -c "$*"
fi
if [ "${1:-}" != --inside ]; then
  maps=$([ "$(id -u)" = 0 ] || echo --map-root-user)
  unshare $maps --net --uts true 2>/dev/null && command -v ip nsenter >/dev/null || exit 77
  exec unshare $maps --net --uts "$0" --inside "$@"
fi
shift
unshare --net --uts sleep 600 &
other=$!
trap 'kill $other' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
there() { nsenter --target $other --net --uts -- "$@"; }
hostname host1 && there hostname host2
ip link add cable1 type veth peer name cable2 netns $other || exit 77
ip address add 10.77.0.1/24 dev cable1 && ip link set cable1 up && ip link set lo up
there ip address add 10.77.0.2/24 dev cable2 && there ip link set cable2 up && there ip link set lo up
AGENT_OF=$other "$@"
