# Shared by the scripts that start real servers; sourced, not run. Bash 4.4+, Linux (or any system with /proc or ps).
#
# Exit codes of both scripts: 0 done, 1 failed, 2 wrong use, 3 `status`: not running,
# 77 the server cannot be had here (a tool or the network is missing): the caller may skip, visibly.

say()  { printf '%s: %s\n' "$ME" "$*" >&2; }
die()  { say "$*"; exit 1; }
skip() { say "not available: $*"; exit 77; }

CACHE=${TIDEWIRE_CACHE:-${HOME:?HOME or TIDEWIRE_CACHE must be set}/.cache/tidewire}
PYTHON=${TIDEWIRE_PYTHON:-python3}
START_TIMEOUT=${TIDEWIRE_START_TIMEOUT:-120}

# One instance = one folder: lock, pid, port, uri, log, data/.
use_instance() { # family name
  [[ $2 =~ ^[A-Za-z0-9_-]{1,40}$ ]] || die "instance name '$2': letters, digits, - and _ only"
  mkdir -p "$CACHE"; CACHE=$(cd "$CACHE" && pwd)
  RUN=$CACHE/run/$1-$2
}

with_lock() { # file command...: runs command while holding the lock of one instance; servers do not inherit descriptor 9
  mkdir -p "$(dirname "$1")"
  if command -v flock >/dev/null; then
    exec 9>"$1"; flock -w 600 9 || die "lock $1 is held by another process"
    "${@:2}"
    exec 9>&-
  else "${@:2}"; fi
}

with_install_lock() { # the same for installing, on descriptor 8: one lock for all instances of a cache
  if command -v flock >/dev/null; then
    exec 8>"$CACHE/install.lock"; flock -w 1200 8 || die "lock $CACHE/install.lock is held by another process"
    "$@"
    exec 8>&-
  else "$@"; fi
}

need() { command -v "$1" >/dev/null || skip "$1 is not installed ($2)"; }

proc_birth() { # pid -> a string that changes when the pid is used again
  if [[ -r /proc/$1/stat ]]; then sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
  else ps -o lstart= -p "$1" 2>/dev/null || true; fi
}

running() { # true if the recorded server is alive (and is the one we started)
  local pid birth
  [[ -s $RUN/pid ]] || return 1
  { read -r pid && read -r birth; } <"$RUN/pid" || return 1
  kill -0 "$pid" 2>/dev/null || return 1
  [[ $(proc_birth "$pid") == "$birth" ]] || return 1
  case $(ps -o stat= -p "$pid" 2>/dev/null) in Z*) return 1 ;; esac
  PID=$pid
}

same_kind() { # a running instance of another kind is not what was asked for
  local is; is=$(cat "$RUN/kind" 2>/dev/null || true)
  [[ -z $is || $is == "$KIND" ]] || die "instance ${RUN##*/} already runs kind '$is'; stop it or choose another name"
}

launch() { # command...: detached, own process group, log in $RUN/log; sets PID
  local detach=()
  command -v setsid >/dev/null && detach=(setsid)
  "${detach[@]}" "$@" </dev/null >>"$RUN/log" 2>&1 7>&- 8>&- 9>&- &
  PID=$!
  printf '%s\n%s\n' "$PID" "$(proc_birth "$PID")" >"$RUN/pid"
}

signal_group() { # signal: to the group if the server leads one, else to the process
  kill "-$1" -- "-$PID" 2>/dev/null || kill "-$1" "$PID" 2>/dev/null || true
}

stop_server() { # TERM, then KILL after 20 s; returns when the process is gone
  running || { rm -f "$RUN/pid"; return 0; }
  signal_group CONT
  signal_group TERM
  local i
  for ((i = 0; i < 200; i++)); do running || break; sleep 0.1; done
  if running; then say "no answer to TERM, sending KILL"; signal_group KILL; fi
  for ((i = 0; i < 100; i++)); do running || break; sleep 0.1; done
  running && die "pid $PID does not end"
  rm -f "$RUN/pid"
}

kill_server() { # KILL at once; data stay, the next start reopens them on the same port
  running || { rm -f "$RUN/pid"; return 0; }
  signal_group KILL
  local i
  for ((i = 0; i < 100; i++)); do running || break; sleep 0.05; done
  rm -f "$RUN/pid"
}

is_free() { # port: nobody listens on it on loopback
  "$PYTHON" - "$1" <<'PY'
import socket, sys
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    try:
        s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, int(sys.argv[1]))); s.close()
    except OSError:
        if family == socket.AF_INET: sys.exit(1)
PY
}

# Sets PORT to one in a range. It is no other instance's, be that one killed at the moment, and until this script ends, by
# a lock on descriptor 7, no other start takes it: a server that loses its port is perhaps found by the probe of another.
# The range lies below the ports that the system gives to outgoing connections, which would sit on that of a killed server.
take_port() { # first last
  local i at=$RANDOM count=$(($2 - $1 + 1))
  for ((i = 0; i < count; i++)); do
    PORT=$(($1 + (at + i) % count))
    if command -v flock >/dev/null; then
      exec 7>"$CACHE/run/port-$PORT.lock"
      flock -n 7 || continue
    fi
    grep -qsx "$PORT" "$CACHE"/run/*/port && continue
    is_free "$PORT" && return 0
  done
  die "no free port between $1 and $2"
}

venv() { # folder package...: a virtual environment with exactly these packages, made once, safe to interrupt
  local dir=$1 log=$1.log; shift
  [[ -e $dir/.complete ]] && return 0
  need "$PYTHON" "Python 3.11 to 3.13"
  rm -rf "$dir"; mkdir -p "$(dirname "$dir")"
  say "installing $1 into $dir (once)"
  "$PYTHON" -m venv "$dir" >"$log" 2>&1 || { tail -n 3 "$log" >&2; skip "python venv (Debian: python3-venv)"; }
  "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all: "$@" \
    >>"$log" 2>&1 || { tail -n 3 "$log" >&2; rm -rf "$dir"; skip "pip install $1"; }
  touch "$dir/.complete"
}

wait_ready() { # probe...: until it succeeds; fails when the server ends or the time is up
  local end=$((SECONDS + START_TIMEOUT))
  until "$@"; do
    running || { tail -n 15 "$RUN/log" >&2; return 1; }
    ((SECONDS < end)) || { say "not ready after $START_TIMEOUT s"; tail -n 15 "$RUN/log" >&2; stop_server; return 1; }
    sleep 0.1
  done
}

main() { # the verbs
  if [[ -n $GIVEN ]]; then # the caller's own server: nothing of it is touched
    case ${1:-} in
      start)  printf '%s\n' "$GIVEN"; return ;;
      status) printf 'given %s\n' "$GIVEN"; return ;;
      stop)   return ;;
      kill | pause | resume | log) die "$1: not on a server that was given" ;;
    esac
  fi
  case ${1:-} in
    start)  start ;;
    stop) # an orderly end is for data that are kept
      if [[ ${TIDEWIRE_KEEP:-0} == 1 ]]; then with_lock "$RUN.lock" stop_server
      else with_lock "$RUN.lock" kill_server; rm -rf "$RUN"; fi ;;
    kill)   with_lock "$RUN.lock" kill_server ;;
    pause)  running || exit 3; signal_group STOP ;;
    resume) running || exit 3; signal_group CONT ;;
    status)
      if running; then printf 'running %s pid %s %s\n' "$(cat "$RUN/uri" 2>/dev/null)" "$PID" "$(cat "$RUN/kind" 2>/dev/null)"
      else printf 'stopped\n'; exit 3; fi ;;
    log)    cat "$RUN/log" ;;
    *)      usage; exit 2 ;;
  esac
}
