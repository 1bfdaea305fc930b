#!/usr/bin/env bash
# A real MongoDB-wire server for tests: SecantusDB, one node, replica set "secantus", change streams.
#
#   mongo.sh start    install what is missing, start, wait until it answers, print one line: the URI
#   mongo.sh stop     end it and delete its data (TIDEWIRE_KEEP=1 keeps them)
#   mongo.sh kill     SIGKILL; the next start reopens the same data on the same port
#   mongo.sh pause | resume     SIGSTOP, SIGCONT: a server that hangs
#   mongo.sh status | log
#
# TEST_MONGO_URI        use this server: start prints it, the other verbs touch nothing
# TIDEWIRE_CACHE        where things are installed and run     (default: .cache/tidewire in the home folder)
# TIDEWIRE_MONGO_NAME   instance, several may run side by side (default: default)
# TIDEWIRE_MONGO_KIND   py: the reference, transactions have one clusterTime (default)
#                       rs: an older Rust server, faster writes, for bench
# TIDEWIRE_MONGO_PORT   fixed port                             (default: a free one)
# TIDEWIRE_MONGO_DURABLE  0: do not fsync each commit          (default: 1; crash tests need it)
# TIDEWIRE_MONGO_ARGS   more arguments for the server, e.g. "--oplog-max-entries 200" or "--auth"
set -euo pipefail
ME=mongo.sh
# shellcheck source=backends.sh
. "$(dirname "${BASH_SOURCE[0]}")/backends.sh"

PY_PACKAGES=(SecantusDB==0.7.0b3 pymongo==4.20.0 dnspython==2.9.2 python-dateutil==4.0.0 tzdata==2026.6
             s2sphere==0.2.5 future==1.0.0 shapely==2.2.0 numpy==2.4.6)
RS_PACKAGES=(SecantusDB==0.6.0b17)

GIVEN=${TEST_MONGO_URI:-}
KIND=${TIDEWIRE_MONGO_KIND:-py}
use_instance mongo "${TIDEWIRE_MONGO_NAME:-default}"
read -r -a MORE <<<"${TIDEWIRE_MONGO_ARGS:-}"

usage() { sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; }

server_command() { # port -> COMMAND
  COMMAND=()
  case $KIND in
    py) with_install_lock venv "$CACHE/secantus-py-0.7.0b3" "${PY_PACKAGES[@]}"
        COMMAND=("$CACHE/secantus-py-0.7.0b3/bin/secantusd-py" --enable-test-commands) ;;
    rs) with_install_lock venv "$CACHE/secantus-rs-0.6.0b17" "${RS_PACKAGES[@]}"
        # the program itself: its launcher in bin/ does not stand a space in the path
        COMMAND=("$(echo "$CACHE"/secantus-rs-0.6.0b17/lib/python3*/site-packages/secantusdb.scripts/secantusd-rs)"
                 --log-file-max 128MB) ;;
    *)  die "TIDEWIRE_MONGO_KIND is py or rs, not '$KIND'" ;;
  esac
  COMMAND+=(--config "$RUN/secantusd.toml" --host 127.0.0.1 --port "$1" --storage-path "$RUN/data" --cache-size 256M)
  [[ ${TIDEWIRE_MONGO_DURABLE:-1} == 0 ]] || COMMAND+=(--sync-on-commit)
  COMMAND+=("${MORE[@]}")
}

answers() { # port: true when `hello` says it is a writable primary (plain or TLS)
  "$PYTHON" - "$1" "${MORE[*]}" 2>/dev/null <<'PY'
import socket, ssl, struct, sys
doc = b"\x10hello\0\1\0\0\0\x02$db\0\6\0\0\0admin\0"
doc = struct.pack("<i", len(doc) + 5) + doc + b"\0"
body = struct.pack("<I", 0) + b"\0" + doc
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2); s.settimeout(5)
if "--tls-cert-file" in sys.argv[2]:
    c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE; s = c.wrap_socket(s)
s.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body)
r = b""
while len(r) < 4 or len(r) < struct.unpack("<i", r[:4])[0]:
    d = s.recv(65536)
    if not d: sys.exit(1)
    r += d
sys.exit(0 if b"\x08isWritablePrimary\0\1" in r else 1)
PY
}

start_locked() {
  if running; then same_kind; return 0; fi
  need "$PYTHON" "Python 3.11 to 3.13"
  mkdir -p "$RUN/data"; : >"$RUN/secantusd.toml"
  local port
  for _ in 1 2 3; do
    port=${TIDEWIRE_MONGO_PORT:-$(cat "$RUN/port" 2>/dev/null || true)}
    if [[ -z $port ]]; then take_port 10000 11999; port=$PORT; fi
    server_command "$port"
    : >"$RUN/log"
    launch "${COMMAND[@]}"
    if wait_ready answers "$port" && running; then
      printf '%s\n' "$port" >"$RUN/port"; printf '%s\n' "$KIND" >"$RUN/kind"
      printf 'mongodb://127.0.0.1:%s/?replicaSet=secantus\n' "$port" >"$RUN/uri"
      return 0
    fi
    stop_server
    if [[ -n ${TIDEWIRE_MONGO_PORT:-} || -s $RUN/port ]] || ! grep -qi 'in use' "$RUN/log"; then break; fi
  done
  die "the server did not start, see $RUN/log"
}

start() {
  with_lock "$RUN.lock" start_locked
  cat "$RUN/uri"
}

main "$@"
