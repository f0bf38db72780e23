#!/bin/sh
# Keeps a tunnel to an Ops Center hub with the stock OpenSSH client, for sites that trust nothing
# else. `python -m agent serve` (or whatever you offer) must listen at the targets of FORWARDS.
#
#   OPSCENTER_SSH_HUB=hub.example.com:2222    host:port of the hub
#   OPSCENTER_SSH_CLUSTER=<uuid>              the cluster's id, which is the SSH user name
#   OPSCENTER_SSH_KEY=./opscenter_key         private key; its public half is registered
#   OPSCENTER_SSH_KNOWN_HOSTS=./opscenter_known_hosts   the hub's pinned key
#   OPSCENTER_SSH_FORWARDS="agent:9099:127.0.0.1:9099"  service:port:host:port, blank-separated
#   OPSCENTER_SSH_MAX_SLEEP=60                longest wait between two tries, seconds
#   OPSCENTER_SSH_TRIES=0                     give up after so many tries; 0 never
set -eu

fail() { printf 'opscenter-ssh-agent: %s\n' "$1" >&2; exit 2; }

hub=${OPSCENTER_SSH_HUB:-}
cluster=${OPSCENTER_SSH_CLUSTER:-}
key=${OPSCENTER_SSH_KEY:-./opscenter_key}
known_hosts=${OPSCENTER_SSH_KNOWN_HOSTS:-./opscenter_known_hosts}
forwards=${OPSCENTER_SSH_FORWARDS:-agent:9099:127.0.0.1:9099}
max_sleep=${OPSCENTER_SSH_MAX_SLEEP:-60}
tries=${OPSCENTER_SSH_TRIES:-0}

case $hub in *?:?*) ;; *) fail 'OPSCENTER_SSH_HUB must read host:port' ;; esac
[ -n "$cluster" ] || fail 'OPSCENTER_SSH_CLUSTER is not set'
[ -r "$key" ] || fail "OPSCENTER_SSH_KEY: $key cannot be read"
[ -r "$known_hosts" ] || fail "OPSCENTER_SSH_KNOWN_HOSTS: $known_hosts cannot be read"

set --
for forward in $forwards; do
  # Four parts: a forward without a target would be a SOCKS proxy into this network.
  case $forward in
    *:*:*:*) set -- "$@" -R "$forward" ;;
    *) fail "OPSCENTER_SSH_FORWARDS: $forward does not read service:port:host:port" ;;
  esac
done
[ $# -gt 0 ] || fail 'OPSCENTER_SSH_FORWARDS names nothing'

child=
stop() { [ -z "$child" ] || kill "$child" 2>/dev/null || :; exit 0; }
trap stop TERM INT

# A number from 0 to $1 that differs between machines which start at the same moment.
random_up_to() {
  number=$(od -An -N2 -tu2 /dev/urandom)
  echo $((number % ($1 + 1)))
}

ceiling=2
count=0
while :; do
  started=$(date +%s)
  ssh -F /dev/null -N -T -p "${hub##*:}" -i "$key" \
    -o IdentitiesOnly=yes -o BatchMode=yes \
    -o UserKnownHostsFile="$known_hosts" -o GlobalKnownHostsFile=/dev/null \
    -o StrictHostKeyChecking=yes -o ExitOnForwardFailure=yes \
    -o ServerAliveInterval=15 -o ServerAliveCountMax=3 -o ConnectTimeout=10 \
    -c aes128-gcm@openssh.com "$@" "$cluster@${hub%:*}" &
  child=$!
  code=0
  wait "$child" || code=$?
  child=
  count=$((count + 1))
  [ "$tries" -eq 0 ] || [ "$count" -lt "$tries" ] || exit 1
  # A tunnel that lived for a minute proves the path: reset the back-off.
  if [ $(($(date +%s) - started)) -ge 60 ]; then ceiling=2; fi
  pause=$(random_up_to "$ceiling")
  printf 'opscenter-ssh-agent: ssh ended (%s), trying again in %s s\n' "$code" "$pause" >&2
  sleep "$pause" &
  child=$!
  wait "$child" || :
  child=
  ceiling=$((ceiling * 2))
  [ "$ceiling" -le "$max_sleep" ] || ceiling=$max_sleep
done
